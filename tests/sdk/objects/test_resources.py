"""`Retries`, `Cron` and `Period` keep their values, and refuse wrong ones."""

import modal
import pytest
from modal.exception import InvalidError


def test_retries_keep_what_they_were_given():
    plain, own = (
        modal.Retries(max_retries=3),
        modal.Retries(max_retries=0, backoff_coefficient=1.5, initial_delay=0.25, max_delay=30.0),
    )

    assert (3, 2.0, 1.0, 60.0) == (
        *(plain.max_retries, plain.backoff_coefficient),
        *(plain.initial_delay, plain.max_delay),
    )
    assert (0, 1.5, 0.25, 30.0) == (
        *(own.max_retries, own.backoff_coefficient),
        *(own.initial_delay, own.max_delay),
    )


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("backoff_coefficient", 1, 10), ("initial_delay", 0, 60), ("max_delay", 1, 60)],
)
def test_retries_have_bounds(name, low, high):
    for value in (low, high):
        assert value == getattr(modal.Retries(max_retries=1, **{name: value}), name)
    for value in (low - 0.5, high + 0.5):
        with pytest.raises(InvalidError, match=f"`{name}`.*between {low} and {high}"):
            modal.Retries(max_retries=1, **{name: value})


def test_a_schedule_keeps_what_it_was_given():
    assert ("0 9 * * *", "UTC") == (
        modal.Cron("0 9 * * *").cron_string,
        modal.Cron("0 9 * * *").timezone,
    )
    assert "Europe/Berlin" == modal.Cron("0 9 * * *", timezone="Europe/Berlin").timezone
    assert {
        "years": 0,
        "months": 0,
        "weeks": 0,
        "days": 2,
        "hours": 0,
        "minutes": 5,
        "seconds": 1.5,
    } == modal.Period(days=2, minutes=5, seconds=1.5).parts
    with pytest.raises(TypeError, match="`days` must be an int, not float"):
        modal.Period(days=1.5)
