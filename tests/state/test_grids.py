"""Steps of time. What grids do is in test_traffic.py and test_usage.py."""

import pytest

from homeport.state.grids import MOST_CELLS, MOST_STEPS, Window, fitting, window


@pytest.mark.parametrize(
    ("since", "until", "step_s", "wanted"),
    [
        (0.0, 60.0, 60, Window(60, 0, 0)),
        (59.0, 61.0, 60, Window(60, 0, 1)),
        (60.0, 61.0, 1, Window(10, 6, 6)),
        (0.0, 86400.0, 10, Window(60, 0, 1439)),
        (0.0, 31 * 86400.0, 10, Window(3600, 0, 743)),
        (0.0, 3600.0, 9_999, Window(3600, 0, 0)),
    ],
)
def test_a_window_has_whole_steps_and_not_too_many(since, until, step_s, wanted):
    assert wanted == window(since, until, step_s)
    assert wanted.steps <= MOST_STEPS


def test_so_many_rows_have_steps_that_fit():
    day = window(0.0, 86400.0, 60)

    assert day == fitting(day, 30)
    for rows in (300, 3_000):
        assert fitting(day, rows).steps * rows <= max(MOST_CELLS, 24 * rows)
