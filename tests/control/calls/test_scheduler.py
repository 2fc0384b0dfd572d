"""Scheduled functions on a clock that the test sets: restarts, late servers, jumps of the clock, deploys."""

import asyncio
from datetime import UTC, datetime

import pytest

from homeport.contract.manifest import CallMethod, FunctionSpec, Manifest
from homeport.contract.schedules import Schedule
from homeport.contract.scope import MAIN
from homeport.control.calls.scheduler import LATE_S, LOOK_EACH_S, Scheduler
from homeport.control.calls.spawned import Spawned
from homeport.control.deploys.apps import Live, LiveApp
from homeport.control.fleet.owner import Owner
from homeport.state.calls import CallRow, Calls
from homeport.state.database import Database
from homeport.state.rows import Revision
from homeport.state.schedules import Schedules

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC).timestamp()
MINUTE = Schedule(cron="* * * * *")
DAILY = Schedule(cron="0 13 * * *")
TEN = Schedule(seconds=10)


def revision(name: str, **schedules: Schedule) -> Revision:
    functions = tuple(
        FunctionSpec(
            name=function,
            module="m",
            qualname=function,
            calls=(CallMethod(tag=function, attribute=function),),
            schedule=schedule,
        )
        for function, schedule in schedules.items()
    )
    return Revision(
        id=name,
        app="shop",
        version=1,
        manifest=Manifest(app_name="shop", functions=functions),
        fingerprint="",
        created_at=0.0,
    )


class Plane:
    """A scheduler over a real database, with a clock of the test's own."""

    def __init__(self, database: Database, folder) -> None:
        self.calls = Calls(database, folder)
        self.rows = Schedules(database, self.calls)
        self.live = Live()
        self.now = NOON + 0.5
        self.unsettled: set[str] = set()
        self.said: list[str] = []
        self.sent: list[CallRow] = []
        self.restart()

    def restart(self) -> None:
        """Begin with nothing but the database."""
        spawned = Spawned(self.calls, lambda _endpoint: "", key=str)
        spawned.sender = self
        self.scheduler = Scheduler(
            self.rows,
            spawned,
            self.live,
            settled=lambda owner: owner.name not in self.unsettled,
            key=str,
            say=lambda line: self.said.append(line.text),
            clock=lambda: self.now,
        )

    def added(self, calls) -> None:
        """Be the dispatcher of new calls."""
        self.sent += [row for row, _ in calls]

    def deploy(self, name: str, **schedules: Schedule) -> None:
        owner = Owner.app(MAIN, "shop")
        self.live.add(LiveApp(owner=owner, name="shop", revision=revision(name, **schedules)))

    async def at(self, now: float) -> list[float]:
        """Look at a time, and let every run begin; return when the function has been due so far."""
        self.now = now
        await self.scheduler.look()
        return await self.runs()

    async def runs(self) -> list[float]:
        rows = await self.calls.latest("", "", 1000)
        for row in rows:
            await self.calls.claim(row.id, 0, 0, "ta-1")
        return sorted(int(row.id[3:19], 16) / 1e9 - NOON for row in rows)


@pytest.fixture
async def plane(database, tmp_path):
    return Plane(database, tmp_path / "calls")


async def test_nothing_runs_at_the_deploy_and_then_at_each_time(plane):
    plane.deploy("rv-1", f=MINUTE)

    assert [] == await plane.at(NOON + 0.5)
    assert {"f": NOON + 60} == plane.scheduler.next_runs(Owner.app(MAIN, "shop"))
    assert [] == await plane.at(NOON + 59.9)
    assert [60.0] == await plane.at(NOON + 60.0)
    assert [60.0] == await plane.at(NOON + 60.5)
    assert [60.0, 120.0] == await plane.at(NOON + 120.1)
    assert [NOON + 60.0, NOON + 120.1] == [row.due_at for row in plane.sent]
    assert [] == plane.said


async def test_the_scheduler_looks_when_a_run_is_due_and_now_and_then(plane):
    plane.deploy("rv-1", f=TEN, g=DAILY)

    assert NOON + 10.5 == await plane.scheduler.look()
    plane.deploy("rv-2", g=DAILY)
    assert NOON + 0.5 + LOOK_EACH_S == await plane.scheduler.look()


async def test_a_restart_neither_loses_nor_doubles_a_run(plane):
    plane.deploy("rv-1", f=MINUTE)
    await plane.at(NOON + 0.5)
    plane.restart()
    assert [60.0] == await plane.at(NOON + 63)  # it was due during the restart
    plane.restart()
    assert [60.0] == await plane.at(NOON + 64)
    assert [60.0, 120.0] == await plane.at(NOON + 120)
    assert [] == plane.said


async def test_a_run_that_is_too_late_is_said_and_left_out(plane):
    plane.deploy("rv-1", f=DAILY)
    await plane.at(NOON)
    plane.restart()

    assert [] == await plane.at(NOON + 3600 + LATE_S + 1)
    assert [
        "the scheduled function was not run at 2026-11-26 13:00:00 UTC: the server did not run then"
    ] == plane.said
    assert {"f": NOON + 25 * 3600} == plane.scheduler.next_runs(Owner.app(MAIN, "shop"))
    assert [25 * 3600.0] == await plane.at(NOON + 25 * 3600)


async def test_of_many_missed_runs_the_last_one_begins_if_it_is_not_late(plane):
    plane.deploy("rv-1", f=MINUTE)
    await plane.at(NOON)
    plane.restart()

    assert [7200.0] == await plane.at(NOON + 7205)
    assert 1 == len(plane.said)


async def test_a_clock_that_goes_back_repeats_no_run_and_stops_none(plane):
    plane.deploy("rv-1", f=MINUTE)
    await plane.at(NOON)
    await plane.at(NOON + 60)
    far = 300 * 86400.0
    await plane.at(NOON + far)  # the clock was wrong
    plane.said.clear()
    await plane.at(NOON + 61)
    assert {"f": NOON + 120} == plane.scheduler.next_runs(Owner.app(MAIN, "shop"))
    assert [60.0, 120.0, far] == await plane.at(NOON + 120)
    await plane.at(NOON + 59)
    assert [60.0, 120.0, far] == await plane.at(NOON + 60)
    assert [60.0, 120.0, far] == await plane.at(NOON + 120)


async def test_the_clock_was_ahead_before_the_restart(plane):
    plane.deploy("rv-1", f=DAILY)
    await plane.at(NOON + 300 * 86400)
    plane.restart()

    assert [] == await plane.at(NOON)
    assert {"f": NOON + 3600} == plane.scheduler.next_runs(Owner.app(MAIN, "shop"))


async def test_a_deploy_keeps_a_cron_and_begins_a_period_anew(plane):
    plane.deploy("rv-1", c=MINUTE, p=TEN)
    await plane.at(NOON)
    plane.deploy("rv-2", c=MINUTE, p=TEN)
    await plane.at(NOON + 4)

    assert {"c": NOON + 60, "p": NOON + 14} == plane.scheduler.next_runs(Owner.app(MAIN, "shop"))
    plane.restart()
    await plane.at(NOON + 5)
    assert {"c": NOON + 60, "p": NOON + 14} == plane.scheduler.next_runs(Owner.app(MAIN, "shop"))
    plane.deploy("rv-3", c=DAILY)
    await plane.at(NOON + 6)
    assert {"c": NOON + 3600} == plane.scheduler.next_runs(Owner.app(MAIN, "shop"))


async def test_a_stopped_app_has_no_schedule(plane):
    plane.deploy("rv-1", f=MINUTE)
    await plane.at(NOON)
    plane.live.remove(Owner.app(MAIN, "shop"))

    assert [] == await plane.at(NOON + 60)
    assert [] == await plane.rows.all()
    assert {} == plane.scheduler.next_runs(Owner.app(MAIN, "shop"))


async def test_an_app_that_is_being_restored_keeps_its_schedule_and_runs_when_it_is_back(plane):
    plane.deploy("rv-1", f=MINUTE)
    await plane.at(NOON)
    app = plane.live.remove(Owner.app(MAIN, "shop"))
    plane.unsettled.add("shop")
    plane.restart()

    assert [] == await plane.at(NOON + 61)
    plane.live.add(app)
    plane.unsettled.clear()
    assert [60.0] == await plane.at(NOON + 62)


async def test_a_deploy_under_way_counts_when_it_has_ended(plane):
    plane.deploy("rv-1", p=TEN)
    await plane.at(NOON)
    plane.deploy("rv-2", p=TEN)  # and back again, because its containers did not start
    plane.unsettled.add("shop")
    await plane.at(NOON + 2)
    plane.deploy("rv-1", p=TEN)
    plane.unsettled.clear()
    await plane.at(NOON + 3)

    assert {"p": NOON + 10} == plane.scheduler.next_runs(Owner.app(MAIN, "shop"))


async def test_a_session_has_no_schedule(plane):
    owner = Owner.session(MAIN, "se-1")
    plane.live.add(LiveApp(owner=owner, name="shop", revision=revision("rv-1", f=TEN)))

    await plane.at(NOON)
    assert [] == await plane.at(NOON + 10)


async def test_runs_do_not_pile_up_behind_one_that_cannot_begin(plane):
    plane.deploy("rv-1", p=TEN)
    await plane.at(NOON)
    for second in (10, 20, 30):
        plane.now = NOON + second
        await plane.scheduler.look()

    assert [
        "the scheduled function was not run at 2026-11-26 12:00:20 UTC: the run before has not begun yet"
    ] == plane.said
    assert [10.0] == await plane.runs()
    assert [10.0, 40.0] == await plane.at(NOON + 40)


async def test_somebody_else_has_changed_the_row(plane):
    plane.deploy("rv-1", f=MINUTE)
    await plane.at(NOON)
    await plane.rows.replace(MAIN, "shop", [])

    assert [] == await plane.at(NOON + 60)
    await plane.scheduler.look()
    assert {"f": NOON + 120} == plane.scheduler.next_runs(Owner.app(MAIN, "shop"))


async def test_the_scheduler_looks_by_itself(plane):
    plane.deploy("rv-1", f=MINUTE)
    seen = asyncio.Event()
    look = plane.scheduler.look

    async def watched() -> float:
        try:
            return await look()
        finally:
            seen.set()

    plane.scheduler.look = watched
    plane.scheduler.open()
    await asyncio.wait_for(seen.wait(), 60)
    seen.clear()
    plane.now = NOON + 60
    plane.scheduler.wake()
    await asyncio.wait_for(seen.wait(), 60)
    await plane.scheduler.close()
    assert [60.0] == await plane.runs()


async def test_a_time_zone_that_the_machine_does_not_know_any_more_stops_no_other_schedule(plane):
    lost = Schedule(cron="* * * * *", timezone="US/Lost")
    plane.deploy("rv-1", f=lost, g=MINUTE)

    assert [] == await plane.at(NOON)
    assert [60.0] == await plane.at(NOON + 60)
    assert ["g"] == [row.tag for row in plane.sent]
    (said,) = plane.said
    assert 'this machine cannot follow Cron("* * * * *", timezone="US/Lost")' in said
