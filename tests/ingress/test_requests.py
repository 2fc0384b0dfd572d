"""How long requests took: a table, and a story with its own clock."""

import pytest

from homeport.contract.traffic import RequestRecord
from homeport.ingress.config import LINE_BYTES
from homeport.ingress.requests import WINDOW_S, Durations, Requests


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


def line(number: int, ms: int, endpoint: str = "hello", container="ta-1", first_byte="1") -> str:
    """Return a line as HAProxy writes it (ingress/config.py, `log-format`)."""
    return f"{number} {ms} 200 {container} {first_byte} {endpoint} - GET /\n"


def told(text: str) -> list[RequestRecord]:
    """Return the records that are made from a ring's lines."""
    requests, records = Requests(clock=lambda: 0.0), []
    requests.ended = records.append
    requests.read(text)
    return records


def test_the_past_is_forgotten_after_two_windows():
    now = [0.0]
    requests = Requests(clock=lambda: now[0])
    requests.read(line(1, 10))
    assert (10, 10) == requests.quantiles_ms("hello")
    now[0] = WINDOW_S + 1
    requests.read(line(2, 30))
    assert (10, 30) == requests.quantiles_ms("hello")
    now[0] = 2 * WINDOW_S + 1
    assert (30, 30) == requests.quantiles_ms("hello")
    now[0] = 9 * WINDOW_S
    assert requests.quantiles_ms("hello") is None


def test_a_line_is_read_once_however_often_the_ring_is():
    requests = Requests(clock=lambda: 0.0)
    early = line(1, 10) + line(2, 10)
    requests.read(early)
    requests.read(early)
    requests.read(early.rstrip("\n"))
    requests.read(early + line(3, 30) + line(4, 30) + line(5, 30))
    assert (30, 30) == requests.quantiles_ms("hello")
    requests.restart()  # another process counts anew
    requests.read(line(1, 50, "other"))

    assert (50, 50) == requests.quantiles_ms("other")


def test_a_slow_request_counts_though_later_ones_have_overtaken_it():
    requests = Requests(clock=lambda: 0.0)
    early = line(2, 10) + line(1, 900)
    requests.read(early)
    assert (10, 900) == requests.quantiles_ms("hello")
    requests.read(early + line(12, 5) + line(3, 5000))

    assert 5000 == requests.quantiles_ms("hello")[1]


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
    requests.read(line(1, 9, container="ta-0") + line(2, 9, first_byte="-1"))
    assert {} == heard  # somebody else's, and one that was cut off
    requests.read(line(2, 9, first_byte="-1") + line(3, 9, first_byte="7") + line(4, 9))
    requests.read(line(4, 9) + line(5, 9))

    assert {"ta-1": 7.0} == heard


def test_a_first_answer_that_was_overwritten_stays_unknown():
    requests, heard = listening()
    requests.read(line(1, 9, container="ta-0"))
    requests.expect("ta-1")
    requests.read(line(900, 9) + line(901, 9))
    requests.expect("ta-2")
    requests.read(line(901, 9) + line(902, 9) + line(903, 9, container="ta-2", first_byte="4"))
    requests.expect("ta-3")
    requests.restart()
    requests.read(line(1, 9, container="ta-3"))

    assert {"ta-2": 4.0} == heard


def test_a_container_that_has_left_is_waited_for_once_more_and_then_forgotten():
    requests, heard = listening()
    requests.expect("ta-1")
    requests.expect("ta-2")
    requests.expect_no_more("ta-1")
    requests.expect_no_more("ta-2")
    requests.read(line(1, 9))
    requests.read(line(1, 9) + line(2, 9, container="ta-2"))

    assert {"ta-1": 1.0} == heard


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "1 -1 400 <NOSRV> -1 -",
        "1 5 404 <NOSRV> -1 -",
        "1 5 404 <NOSRV> -1 ",
        "a b c d e f",
        "1 5 200 ta-1 1 - - GET /",
    ],
)
def test_what_is_no_request_is_let_be(text):
    requests = Requests()
    requests.read(text)

    assert requests.quantiles_ms("-") is None
    assert requests.quantiles_ms("f") is None


@pytest.mark.parametrize(
    ("line", "record"),
    [
        ("7 12 200 ta-1 9 web - GET /shop/1", ("GET", "/shop/1", 200, 12, "ta-1", False)),
        ("7 834 200 ta-1 9 web 1 POST /", ("POST", "/", 200, 834, "ta-1", True)),
        # What was sent to another container after the first had gone has waited for one, too.
        ("7 834 200 again 9 web - GET /", ("GET", "/", 200, 834, "", True)),
        ("7 1 401 <NOSRV> -1 web - GET /", ("GET", "/", 401, 1, "", False)),
        ("7 90 -1 ta-1 -1 web - GET /", ("GET", "/", 0, 90, "ta-1", False)),
        ("7 1 200 ta-1 1 web - GET /a#1B[2J#7C", ("GET", "/a%1B[2J%7C", 200, 1, "ta-1", False)),
        ("7 1 200 ta-1 1 web - OPTIONS *", ("OPTIONS", "*", 200, 1, "ta-1", False)),
    ],
)
def test_each_request_is_told_to_who_hears_of_them(line, record):
    method, path, status, duration_ms, container, cold = record

    assert [
        RequestRecord(
            endpoint="web",
            method=method,
            path=path,
            status=status,
            duration_ms=duration_ms,
            container=container,
            cold=cold,
        )
    ] == told(f"{line}\n")


def test_a_path_that_lost_its_end_says_so():
    head = "7 12 200 ta-1 9 web - GET /"
    (record,) = told(head + "x" * (LINE_BYTES - 1 - len(head)))

    assert record.path.endswith("xx...")


def test_a_request_is_told_once_however_often_the_ring_is_read():
    requests, records = Requests(clock=lambda: 0.0), []
    requests.read(line(1, 10))
    requests.ended = records.append
    requests.read(line(1, 10) + line(2, 20))
    requests.read(line(1, 10) + line(2, 20) + line(3, 30))

    assert [20, 30] == [record.duration_ms for record in records]
