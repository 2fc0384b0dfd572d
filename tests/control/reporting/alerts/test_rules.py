"""When an alert fires and when that is over: a story on a clock of numbers."""

import pytest

from homeport.control.reporting.alerts import rules
from homeport.control.reporting.alerts.rules import FIRING, OK, Measured, State


def story(*looks: tuple[float, bool], calm_s: float = 300.0) -> list[tuple[float, str]]:
    """Return when the alert changed, and what it became; a look is a time, and whether something is wrong."""
    state, changes = State(), []
    for now, bad in looks:
        after = rules.after(state, bad=bad, calm_s=calm_s, now=now)
        if after.state != state.state:
            changes.append((now, after.state))
        state = after
    return changes


def test_an_alert_fires_at_once_and_is_over_after_a_whole_window_without_anything_wrong():
    assert [(15, FIRING), (330, OK)] == story(
        (0, False), (15, True), (30, False), (300, False), (329, False), (330, False), (600, False)
    )


def test_a_condition_that_comes_and_goes_makes_one_message():
    looks = [(15.0 * number, number % 2 == 0) for number in range(100)]

    assert [(0.0, FIRING)] == story(*looks)


def test_something_wrong_begins_the_calm_anew():
    assert [(0, FIRING), (500, OK)] == story(
        (0, True), (100, False), (200, True), (200, False), (400, False), (499, False), (500, False)
    )


def test_a_clock_that_is_set_back_ends_nothing_early_and_holds_nothing_for_ever():
    assert [(1000, FIRING), (410, OK)] == story(
        (1000, True), (1010, False), (100, False), (110, False), (410, False)
    )


@pytest.mark.parametrize(
    ("kind", "limit", "value", "bad"),
    [
        ("errors", 5.0, 4.9, False),
        ("errors", 5.0, 5.0, True),
        ("latency", 1000.0, 1000.0, True),
        ("starts", 3.0, 2.0, False),
        ("disk", 90.0, 91.0, True),
        ("certificate", 7.0, 7.0, False),
        ("certificate", 7.0, -1.0, True),
        ("certificate", 7.0, None, False),
        ("errors", 5.0, None, False),
        ("machine", 1.0, 1.0, True),
        ("machine", 2.0, 1.0, False),
        ("machine", 1.0, None, False),
    ],
)
def test_a_measure_is_bad_if_it_is_beyond_the_limit_of_its_kind(kind, limit, value, bad):
    found = None if value is None else Measured(value=value, what="x")

    assert bad is rules.is_bad(kind, limit, found)
    assert ("x: " in rules.describe(kind, limit, found)) is (value is not None)
