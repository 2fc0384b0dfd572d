"""How long requests took: a table, and a story with its own clock."""

import pytest

from homeport.contract import recorded
from homeport.contract.traffic import RequestRecord
from homeport.ingress.config import LINE_BYTES
from homeport.ingress.requests import WINDOW_S, Durations, Requests
from tests.recorded import line as recorded_line


@pytest.mark.parametrize(
    ("values", "median", "high"),
    [
        ([7], 7, 7),
        (range(1, 101), 50, 99),
        ([1] * 98 + [5000, 5001], 1, 5000),
        ([1234, 1299], 1200, 1200),
        ([0, 0, 0], 0, 0),
    ],
)
def test_quantiles_are_of_what_was_seen(values, median, high):
    durations = Durations(0.0)
    for value in values:
        durations.add(value, 0.0)

    assert (median, high) == (durations.quantile(0.5, 0.0), durations.quantile(0.99, 0.0))


def line(
    id_: str = "a",
    ms: int = 9,
    endpoint: str = "hello",
    container: str = "ta-1",
    first: str = "1",
    **more: str,
) -> str:
    """Return a line as HAProxy writes it."""
    words = {"id": id_, "total": f"{ms}", "endpoint": endpoint, "container": container}
    return recorded_line(**{**words, "first": first, "target": "/", **more})


def told(*lines: str) -> list[RequestRecord]:
    """Return the records that are made from lines of the log."""
    requests, records = Requests(clock=lambda: 0.0), []
    requests.ended = records.append
    requests.read(lines)
    return records


def test_the_past_is_forgotten_after_two_windows():
    now = [0.0]
    requests = Requests(clock=lambda: now[0])
    requests.read([line(ms=10)])
    assert (10, 10) == requests.quantiles_ms("hello")
    now[0] = WINDOW_S + 1
    requests.read([line(ms=30)])
    assert (10, 30) == requests.quantiles_ms("hello")
    now[0] = 2 * WINDOW_S + 1
    assert (30, 30) == requests.quantiles_ms("hello")
    now[0] = 9 * WINDOW_S
    assert requests.quantiles_ms("hello") is None


class Heard(dict):
    """First answers: container -> milliseconds; fails if one container is reported twice."""

    def __call__(self, container: str, ms: float) -> None:
        assert container not in self
        self[container] = ms


def listening() -> tuple[Requests, Heard]:
    requests, heard = Requests(clock=lambda: 0.0), Heard()
    requests.answered = heard
    return requests, heard


def test_the_first_answer_of_a_container_is_told_once():
    requests, heard = listening()
    requests.expect("ta-1")
    requests.read([line(container="ta-0"), line(first="-1")])
    assert {} == heard  # somebody else's, and one that was cut off
    requests.read([line(first="7"), line()])
    requests.read([line()])

    assert {"ta-1": 7.0} == heard


def test_a_first_answer_that_may_be_lost_stays_unknown():
    requests, heard = listening()
    requests.expect("ta-1")
    requests.read(["3 events dropped", line()])
    requests.expect("ta-3")
    requests.restart()
    requests.read([line(container="ta-3")])

    assert {} == heard


def test_a_container_that_has_left_is_waited_for_until_all_is_read():
    requests, heard = listening()
    for name in ("ta-1", "ta-2"):
        requests.expect(name)
        requests.expect_no_more(name)
    requests.read([line(container="ta-0")], more=True)
    requests.read([line(container="ta-2")])
    requests.read([line(container="ta-1")])

    assert {"ta-2": 1.0} == heard


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "Proxy web stopped (cumulated conns: FE: 4, BE: 0).",
        line().rpartition(" ")[0],
        line(total="-1"),
        line(ended="-"),
        line(endpoint="-"),
    ],
)
def test_a_line_that_is_no_request_to_an_endpoint_is_ignored(text):
    requests, kept = Requests(), []
    requests.keep = kept.extend
    requests.read([text])

    assert requests.quantiles_ms("-") is None
    assert [] == kept


def test_lines_are_kept_as_they_are():
    requests, kept = Requests(), []
    requests.keep = kept.append
    requests.read([line("a"), line("b")])

    assert [[line("a").split(" "), line("b").split(" ")]] == kept


def test_a_path_that_lost_its_end_says_so():
    (record,) = told(line(target="/" + "x" * LINE_BYTES))

    assert record.path.endswith("xx...")


def entry(id_: str = "a", **words: str) -> str:
    """Return the line of a request's further entry."""
    return line(id_, kind="again", **words)


def test_a_request_that_enters_again_is_one_with_the_container_that_answered():
    first = line(ms=900, container="again", first="890", head="1", wait="2")
    last = entry(ms=800, first="30", head="750", parked="749", wait="5", container="ta-2")
    requests, heard = listening()
    requests.expect("ta-2")
    kept: list = []
    requests.keep = kept.extend
    requests.read([last, line("b"), first])
    (other, record) = map(recorded.decode, kept)

    assert "b" == other.id
    assert ("ta-2", True, 900) == (record.container, record.cold, record.duration_ms)
    assert {"received": 2, "parked": 749, "queued": 7, "app": 30, "stream": 112} == record.parts_ms
    assert {"ta-2": 30.0} == heard


def test_each_further_entry_counts():
    entries = [
        entry(container="ta-3", parked="5", head="5"),
        entry(container="again", parked="7", head="7"),
    ]
    (record,) = told(*entries, line(container="again", ms=100))

    assert ("ta-3", 12) == (record.container, record.parts_ms["parked"])


def test_a_request_whose_further_entry_is_unknown_was_answered_by_nobody():
    (record,) = told(line(container="again"))

    assert ("", True) == (record.container, record.cold)
