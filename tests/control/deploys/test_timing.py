"""When schedules are due: daylight saving, months of different lengths, and what cannot be kept."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.contract.errors import ScriptError
from homeport.contract.manifest import CallMethod, FunctionSpec, Manifest
from homeport.contract.schedules import Schedule
from homeport.control.deploys import timing


def utc(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def told(moment: float | None) -> str | None:
    if moment is None:
        return None
    return datetime.fromtimestamp(moment, UTC).isoformat(" ").removesuffix("+00:00")


def runs(schedule: Schedule, since: str, count: int) -> list[str]:
    """Return the next times of a schedule that was deployed at `since`."""
    moment = anchor = utc(since)
    found = []
    for _ in range(count):
        moment = timing.after(schedule, anchor, moment)
        found.append(told(moment))
    return found


def test_cron_has_the_days_of_the_week_of_its_time_zone():
    weekdays = Schedule(cron="0 9 * * 1-5", timezone="America/New_York")

    # 2026-11-27 is a Friday.
    assert ["2026-11-27 14:00:00", "2026-11-30 14:00:00"] == runs(
        weekdays, "2026-11-26 14:00:00", 2
    )


def test_cron_keeps_the_time_of_day_when_daylight_saving_changes():
    daily = Schedule(cron="0 6 * * *", timezone="Europe/Paris")

    assert ["2026-03-28 05:00:00", "2026-03-29 04:00:00"] == runs(daily, "2026-03-27 12:00:00", 2)
    assert ["2026-10-24 04:00:00", "2026-10-25 05:00:00"] == runs(daily, "2026-10-23 12:00:00", 2)


def test_a_time_in_the_hour_that_is_skipped_comes_right_after_it():
    skipped = Schedule(cron="30 2 * * *", timezone="Europe/Paris")

    # At 2:00 it is 3:00 in Paris: 01:00 UTC.
    assert ["2026-03-29 01:00:00", "2026-03-30 00:30:00"] == runs(skipped, "2026-03-28 12:00:00", 2)


def test_a_time_in_the_hour_that_comes_twice_runs_once():
    twice = Schedule(cron="30 2 * * *", timezone="Europe/Paris")

    assert ["2026-10-25 00:30:00", "2026-10-26 01:30:00"] == runs(twice, "2026-10-24 12:00:00", 2)
    # Also for a server that starts between the two.
    assert ["2026-10-26 01:30:00"] == runs(twice, "2026-10-25 01:10:00", 1)


def test_each_hour_has_its_run_also_where_it_comes_twice():
    hourly = Schedule(cron="5 * * * *", timezone="Europe/Paris")

    assert ["2026-10-25 00:05:00", "2026-10-25 01:05:00", "2026-10-25 02:05:00"] == runs(
        hourly, "2026-10-25 00:00:00", 3
    )


def test_a_period_counts_from_its_anchor_and_does_not_drift():
    anchor = utc("2026-11-26 10:00:00") + 0.25
    ten = Schedule(seconds=10)

    assert anchor + 10 == timing.after(ten, anchor, anchor)
    assert anchor + 10_000 == timing.after(ten, anchor, anchor + 9_990.0)
    assert anchor + 20 == timing.after(ten, anchor, anchor + 19.9)
    assert ["2026-11-27 10:00:00", "2026-11-28 10:00:00"] == runs(
        Schedule(days=1), "2026-11-26 10:00:00", 2
    )


def test_months_end_where_they_end_and_the_day_comes_back():
    monthly = Schedule(months=1)

    assert [
        "2027-02-28 10:00:00",
        "2027-03-31 10:00:00",
        "2027-04-30 10:00:00",
    ] == runs(monthly, "2027-01-31 10:00:00", 3)
    assert "2037-01-31 10:00:00" == told(
        timing.after(monthly, utc("2027-01-31 10:00:00"), utc("2036-12-31 10:00:00"))
    )
    assert ["2028-02-29 00:00:00", "2029-02-28 00:00:00"] == [
        *runs(Schedule(months=12), "2027-02-28 00:00:00", 0),
        *runs(Schedule(months=12), "2024-02-29 00:00:00", 5)[3:],
    ]


def test_a_run_after_the_last_year_is_never_due():
    assert None is timing.after(
        Schedule(months=1200), utc("9990-01-01 00:00:00"), utc("9990-01-01 00:00:00")
    )


def test_the_last_time_is_not_after_the_end_and_not_at_the_beginning():
    ten = Schedule(seconds=10)

    assert [None, 1010.0, 1030.0] == [
        timing.last(ten, 1000.0, 1000.0, 1009.9),
        timing.last(ten, 1000.0, 1000.0, 1010.0),
        timing.last(ten, 1000.0, 1010.0, 1039.0),
    ]


def manifest(schedule: Schedule) -> Manifest:
    call = CallMethod(tag="f", attribute="f")
    spec = FunctionSpec(
        name="f", module="m", qualname="f", calls=(call,), schedule=schedule, where="app.py:5"
    )
    return Manifest(app_name="shop", functions=(spec,))


@pytest.mark.parametrize(
    ("schedule", "why"),
    [
        (Schedule(cron="61 * * * *"), "cannot be read: bad minute"),
        (Schedule(cron="0 9 * * mo"), "cannot be read: bad day-of-week"),
        (Schedule(cron="0 0 30 2 *"), "cannot be read: bad day-of-month"),
        (Schedule(cron="0 0 * * 1#6"), "cannot be read"),
        (Schedule(cron="0 9 * * *", timezone="Europe/Atlantis"), "time zone that does not exist"),
        (Schedule(cron="0 9 * * *", timezone="../../etc/passwd"), "time zone that does not exist"),
        (Schedule(cron="0 9 * * *", timezone="/etc/passwd"), "time zone that does not exist"),
        (Schedule(cron="* * */20 * 1L"), "is never due"),
    ],
)
def test_a_schedule_that_nobody_can_keep_is_an_error_of_the_script(schedule, why):
    with pytest.raises(ScriptError, match=why) as told:
        timing.check(manifest(schedule), 1e9)
    assert "app.py:5" == told.value.where


def test_a_schedule_that_can_be_kept_passes():
    for schedule in (Schedule(cron="*/5 8-18 * jan,mar mon-fri"), Schedule(seconds=1)):
        timing.check(manifest(schedule), 1e9)


@given(
    anchor=st.floats(0, 4e9),
    elapsed=st.floats(0, 1e6),
    period=st.sampled_from([Schedule(seconds=1), Schedule(seconds=0.5), Schedule(days=1), Schedule(months=1), Schedule(cron="*/5 * * * *")]),
)  # fmt: skip
def test_each_time_is_after_the_one_before(anchor, elapsed, period):
    """Or the search for the last one would never end: times are rounded, and the clock is not."""
    first = timing.after(period, anchor, anchor + elapsed)
    second = timing.after(period, anchor, first)

    assert anchor + elapsed < first < second
