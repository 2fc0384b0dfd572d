"""When a schedule is due. Pure: a schedule and times in, a time out. All times are seconds since the epoch.

A `Cron` is evaluated by cronsim in its time zone, as Debian's cron does it: what would fall into the hour that daylight
saving skips runs right after it, and what would fall twice into the hour that is repeated runs once. A `Period` counts
from its anchor, the time of the deploy, so it does not drift.
"""

import calendar
import functools
import math
import zoneinfo
from datetime import MAXYEAR, UTC, datetime, timezone

from cronsim import CronSim, CronSimError

from homeport.contract.errors import ScriptError
from homeport.contract.manifest import Manifest
from homeport.contract.schedules import Schedule

DAY_S = 86400.0
LONGEST_MONTH_DAYS = 31
#: The errors of `after`, for a schedule that this machine cannot follow: it may not know the time zone.
UNREADABLE = (CronSimError, zoneinfo.ZoneInfoNotFoundError, ValueError, OSError)


def check(manifest: Manifest, now: float) -> None:
    """Raise `ScriptError` for a schedule that cannot be followed: an unknown time zone, or a cron text that is not
    valid.
    """
    for spec in manifest.functions:
        if (schedule := spec.schedule) is None:
            continue
        try:
            due_at = after(schedule, now, now)
        except CronSimError as error:
            why = str(error) or "it is not for cron"
            raise ScriptError(
                f"the schedule {schedule.text} cannot be read: {why[:1].lower()}{why[1:]}",
                where=spec.where,
                hint="the fields are minute, hour, day of the month, month and day of the week",
            ) from None
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            raise ScriptError(
                f"the schedule {schedule.text} has a time zone that does not exist",
                where=spec.where,
                hint='write it as the IANA does, such as "Europe/Paris" or "UTC"',
            ) from None
        if due_at is None:
            raise ScriptError(
                f"the schedule {schedule.text} is never due",
                where=spec.where,
                hint="no day has these values together",
            )


def after(schedule: Schedule, anchor: float, moment: float) -> float | None:
    """Return the first time after `moment` when the schedule is due; None if there is none in 50 years.

    >>> after(Schedule(seconds=10), 1000.0, 1025.0)
    1030.0
    >>> after(Schedule(cron="0 9 * * *"), 0.0, 0.0)
    32400.0
    """
    if schedule.cron:
        return _cron_after(schedule, moment)
    return _period_after(schedule, anchor, moment)


def last(schedule: Schedule, anchor: float, since: float, until: float) -> float | None:
    """Return the last time after `since`, and not after `until`, when the schedule is due; None if there is none.

    >>> last(Schedule(seconds=10), 1000.0, 1005.0, 1035.0)
    1030.0
    """
    latest = None
    due_at = after(schedule, anchor, since)
    while due_at is not None and due_at <= until:
        latest, due_at = due_at, after(schedule, anchor, due_at)
    return latest


def _cron_after(schedule: Schedule, moment: float) -> float | None:
    zone = _zone(schedule.timezone)
    for due in CronSim(schedule.cron, datetime.fromtimestamp(moment, zone)):
        # In the hour that is repeated cronsim names the first of the two, which may be over.
        if (due_at := due.timestamp()) > moment:
            return due_at
    return None


@functools.lru_cache(maxsize=64)
def _zone(name: str) -> zoneinfo.ZoneInfo | timezone:
    # cronsim needs no rules for daylight saving where it sees this UTC.
    return UTC if name == "UTC" else zoneinfo.ZoneInfo(name)


def _period_after(schedule: Schedule, anchor: float, moment: float) -> float | None:
    step_s = schedule.days * DAY_S + schedule.seconds
    longest_s = step_s + schedule.months * LONGEST_MONTH_DAYS * DAY_S
    count = max(math.floor((moment - anchor) / longest_s), 1)
    try:
        # The rounded time counts: it is asked for the time after it, which must be another one.
        while (due_at := _period(anchor, count, schedule.months, step_s)) <= moment:
            count += 1
    except OverflowError:  # after the year 9999
        return None
    return due_at


def _period(anchor: float, count: int, months: int, step_s: float) -> float:
    """Return the anchor so many periods later, in whole milliseconds."""
    return round(_with_months(anchor, count * months) + count * step_s, 3)


def _with_months(anchor: float, months: int) -> float:
    """Return the anchor so many months later; where the month has no such day, its last day."""
    if not months:
        return anchor
    start = datetime.fromtimestamp(anchor, UTC)
    years, month = divmod(start.month - 1 + months, 12)
    year = start.year + years
    if year > MAXYEAR:
        raise OverflowError(year)
    day = min(start.day, calendar.monthrange(year, month + 1)[1])
    return start.replace(year=year, month=month + 1, day=day).timestamp()
