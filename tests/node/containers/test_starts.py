"""How long each part of a start takes, with the test's own clock."""

import pytest

from homeport.contract.container import Event
from homeport.node.containers.starts import Start


class Clock:
    def __init__(self) -> None:
        self.s = 100.0

    def __call__(self) -> float:
        return self.s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def begun(clock: Clock, snapshot: Event | None = None) -> Start:
    """Return a start that has waited 10 ms for its turn, and whose process existed 500 ms later."""
    start = Start(clock)
    clock.s += 0.010
    start.turn_came()
    clock.s += 0.500
    start.exists(snapshot)
    return start


READY = Event(
    kind="ready",
    timings_ms={"imported": 30.0, "entered": 7.0, "listening": 3.0},
    imports_ms={"torch": 29.0},
)


def test_time_that_the_runner_could_not_see_counts_as_imported(clock):
    start = begun(clock)
    clock.s += 0.060
    start.ended(READY)

    expected = {"scheduled": 10.0, "forked": 500.0, "imported": 50.0, "entered": 7.0}
    assert {**expected, "listening": 3.0} == start.timings_ms
    assert {"torch": 29.0} == start.imports_ms


def test_the_time_of_making_a_snapshot_counts_as_imported_and_entered_and_not_as_forked(clock):
    made = Event(
        kind="ready",
        timings_ms={"imported": 100.0, "entered": 350.0, "listening": 0.0},
        imports_ms={"sklearn": 90.0},
    )
    start = begun(clock, made)
    clock.s += 0.040
    start.ended(READY)

    expected = {"scheduled": 10.0, "forked": 50.0, "imported": 130.0, "entered": 357.0}
    assert {**expected, "listening": 3.0} == start.timings_ms
    assert {"torch": 29.0, "sklearn": 90.0} == start.imports_ms


def test_a_start_that_ends_without_a_word_was_as_far_as_it_said(clock):
    start = begun(clock)
    start.reached(Event(kind="reached", phase="entered", timings_ms={"imported": 40.0}))
    clock.s += 1.040
    start.ended(Event(kind="failed", reason="did not become ready within 1 s"))
    clock.s += 9.0
    start.ended()

    expected = {"scheduled": 10.0, "forked": 500.0, "imported": 40.0, "entered": 1000.0}
    assert expected == start.timings_ms


def test_a_start_that_never_had_a_process_spent_its_time_on_the_fork(clock):
    start = Start(clock)
    start.turn_came()
    clock.s += 2.0
    start.ended()

    assert {"scheduled": 0.0, "forked": 2000.0} == start.timings_ms


def test_a_clock_that_ran_ahead_in_the_runner_makes_no_part_negative(clock):
    start = begun(clock)
    clock.s += 0.039
    start.ended(READY)

    assert 30.0 == start.timings_ms["imported"]
