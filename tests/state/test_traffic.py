"""The kept requests, counted by endpoint and time."""

from itertools import count

import pytest

from homeport.contract.api.series import EndpointSeries
from homeport.state import grids, traffic
from homeport.state.grids import IDLE_S, window
from homeport.state.requests import LEAST_BYTES, PARTS, Place, Requests
from homeport.state.scope import MAIN, Scope
from homeport.state.traffic import BOUNDS, Traffic
from tests.recorded import words

OTHER = Scope("acme", "main")
PLACES = {
    "web": Place(MAIN, "shop", "price"),
    "cart": Place(MAIN, "shop", "cart"),
    "theirs": Place(OTHER, "shop", "price"),
}
NOW = 100_000.0
_ids = count()


class House:
    """Requests, how they are counted, and a clock."""

    def __init__(self, root, cap_bytes: int = PARTS * LEAST_BYTES) -> None:
        self.now = NOW
        self.requests = Requests(root, cap_bytes)
        self.traffic = Traffic(self.requests, lambda: self.now)

    def add(self, at: float, endpoint: str = "web", **changes: str) -> None:
        """Add a request that ended so many seconds before NOW."""
        ended = f"{int((NOW - at) * 1000)}"
        line = words(id=f"r{next(_ids)}", ended=ended, endpoint=endpoint, **changes)
        self.requests.add([line], PLACES.get, lambda _name: "")

    def ask(self, scope: Scope = MAIN, span_s: float = 600, step_s: int = 60, wants=None):
        """Return the series of the last seconds, by their function."""
        wanted = window(self.now - span_s, self.now, step_s)
        self.window, found = self.traffic.endpoints(scope, wanted, wants or (lambda _a, _t: True))
        return {each.tag: each for each in found}


@pytest.fixture
def house(tmp_path):
    house = House(tmp_path / "requests")
    yield house
    house.requests.close()


def totals(series: EndpointSeries) -> dict[str, int]:
    return {name: sum(counts) for name, counts in series.by_status.items()}


def test_requests_are_counted_by_the_step_in_which_they_ended(house):
    for at in (1, 2, 61, 599):
        house.add(at, total="10")
    price = house.ask()["price"]

    assert {"2xx": 4} == totals(price)
    counts = price.by_status["2xx"]
    # NOW is in the middle of a minute.
    assert (2, 1, 1) == (counts[-1], counts[-2], counts[0])
    assert (10, None, 10) == (price.p50_ms[-1], price.p50_ms[-3], price.p99_ms[0])
    assert house.window.steps == len(counts) == len(price.p50_ms) == len(price.cold)


def test_each_step_has_statuses_bytes_and_cold_starts(house):
    house.add(1, status="200", sent="100", parked="5")
    house.add(1, status="404", sent="10")
    house.add(1, status="503", sent="1")
    house.add(1, status="-1", how="CD", first="-1")
    house.add(1, status="400", how="CD", first="-1", sent="-")
    price = house.ask()["price"]

    assert {"2xx": 1, "4xx": 1, "5xx": 1, "left": 2} == totals(price)
    assert (121, 1) == (sum(price.sent_bytes), sum(price.cold))


def test_a_later_question_counts_what_came_since(house):
    house.add(100)
    assert {"2xx": 1} == totals(house.ask()["price"])
    house.add(90, status="500")
    house.add(50, endpoint="cart")

    found = house.ask()
    assert {"2xx": 1, "5xx": 1} == totals(found["price"])
    assert {"2xx": 1} == totals(found["cart"])


def test_a_later_question_reads_only_what_was_added(house, monkeypatch):
    house.add(100)
    house.ask()
    read = []
    original = traffic.Reading.entries
    monkeypatch.setattr(
        traffic.Reading,
        "entries",
        lambda self, line: read.append(line) or original(self, line),
    )
    house.add(90)
    house.ask()

    assert 1 == len(read)


def test_an_environment_has_its_own(house):
    house.add(1)
    house.add(1, endpoint="theirs")
    house.add(1, endpoint="theirs")

    assert {"2xx": 1} == totals(house.ask()["price"])
    assert {"2xx": 2} == totals(house.ask(OTHER)["price"])


def test_only_what_is_wanted_and_was_not_quiet_is_told(house):
    house.add(1)
    house.add(2_000, endpoint="cart")

    assert ["price"] == [*house.ask()]
    assert ["cart", "price"] == [*house.ask(span_s=3_000)]
    assert ["cart"] == [*house.ask(span_s=3_000, wants=lambda _app, tag: tag == "cart")]


def test_a_longer_question_is_answered_after_a_shorter_one(house):
    house.add(2_000)
    house.add(1)
    assert {"2xx": 1} == totals(house.ask()["price"])

    assert {"2xx": 2} == totals(house.ask(span_s=3_000)["price"])
    assert {"2xx": 1} == totals(house.ask()["price"])


def test_time_goes_on(house):
    house.add(300)
    assert {"2xx": 1} == totals(house.ask()["price"])
    house.now += 500
    assert {} == house.ask()
    house.add(-499)
    assert (0, 1) == house.ask()["price"].by_status["2xx"][-2:]
    for _ in range(20):
        house.now += 60
        house.ask()

    assert {} == house.ask()
    grid = house.traffic._grids._grids[MAIN, 60]
    assert grid.first > (NOW - 600) // 60  # the old steps are not kept


def test_requests_of_another_clock_are_left_out(house):
    house.add(-1_000_000)
    house.add(1)

    assert {"2xx": 1} == totals(house.ask()["price"])


def test_half_a_line_is_counted_when_it_is_whole(house, tmp_path):
    house.add(1)
    house.ask()
    (path,) = (tmp_path / "requests").glob("*.log")
    line = " ".join(words(id="half", ended=f"{int(NOW * 1000) - 5}"))
    with path.open("a") as file:
        file.write(line[:40])
        file.flush()
        assert {"2xx": 1} == totals(house.ask()["price"])
        file.write(f"{line[40:]}\n")

    assert {"2xx": 2} == totals(house.ask()["price"])


def test_files_that_are_too_old_are_not_read(tmp_path):
    house = House(tmp_path / "requests")
    try:
        for at in (9_000, 5_000, 100):
            house.add(at)
            house.requests.written(MAIN)
            house.requests._queue.put(lambda: house.requests._files.pop(MAIN).close())
            newest = max((tmp_path / "requests").glob("*.log"))
            newest.with_name(f"{int(newest.stem) + 1}.log").touch()
        assert {"2xx": 1} == totals(house.ask()["price"])
        # The one that begins before the first step, and the newer ones.
        assert ["1000002", "1000003", "1000004"] == sorted(
            path.stem for path in house.traffic._grids._grids[MAIN, 60]._files
        )
    finally:
        house.requests.close()


def test_the_oldest_file_goes_and_what_it_had_stays_counted(house, tmp_path):
    house.add(100)
    house.requests.written(MAIN)
    (path,) = (tmp_path / "requests").glob("*.log")
    later = " ".join(words(id="later", ended=f"{int(NOW * 1000) - 5}", endpoint="web"))
    path.with_name(f"{int(path.stem) + 1}.log").write_text(f"{later}\n")
    house.ask()
    path.unlink()

    assert {"2xx": 1} == totals(house.ask()["price"])


def test_a_new_environment_gets_nothing_of_an_earlier_one_of_its_name(house):
    house.add(1, endpoint="theirs")
    house.add(1, endpoint="theirs")
    assert {"2xx": 2} == totals(house.ask(OTHER)["price"])
    house.requests.remove(OTHER)
    house.add(1, endpoint="theirs")

    assert {"2xx": 1} == totals(house.ask(OTHER)["price"])
    house.requests.remove(OTHER)
    assert {} == house.ask(OTHER)


def test_a_grid_that_nobody_asks_for_is_dropped(house):
    house.add(1)
    house.ask()
    house.traffic.drop_idle()
    assert house.traffic._grids._grids
    house.now += IDLE_S
    house.traffic.drop_idle()

    assert not house.traffic._grids._grids
    assert not house.traffic._grids._rows


def test_many_endpoints_have_longer_steps(house, monkeypatch):
    monkeypatch.setattr(grids, "MOST_CELLS", 15)
    house.add(1)
    house.ask()
    assert 60 == house.window.step_s
    house.add(1, endpoint="cart")

    assert {"2xx": 1} == totals(house.ask()["cart"])
    assert 300 == house.window.step_s
    assert {"2xx": 1} == totals(house.ask()["cart"])
    assert [(MAIN, 300)] == [*house.traffic._grids._grids]


def test_a_quantile_is_within_four_percent():
    buckets = len(BOUNDS)
    assert 256 == buckets
    assert BOUNDS == sorted({*BOUNDS})
    for ms in (0, 1, 7, 14, 99, 1_234, 60_000, 3_600_000, 80_000_000):
        row = traffic.Row()
        row.add(0, words(total=f"{ms}"))
        (found,) = row.series("a", "t", 0, 1).p50_ms
        assert abs(found - ms) <= 0.04 * ms, (ms, found)


def test_quantiles_are_of_all_requests_of_a_step(house):
    ended = f"{int(NOW * 1000) - 1}"
    lines = [words(ended=ended, endpoint="web", total=f"{ms}") for ms in range(1, 101)]
    house.requests.add(lines, PLACES.get, lambda _name: "")
    price = house.ask()["price"]

    assert 0.04 >= abs(price.p50_ms[-1] - 50) / 50
    assert 0.04 >= abs(price.p99_ms[-1] - 99) / 99
