"""More pools than one pass looks at: each has its turn, those with an event first, and nothing else is different."""

import asyncio
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeport.contract.manifest import FunctionSpec
from homeport.contract.scope import MAIN
from homeport.contract.traffic import Load, PoolKey
from homeport.control.fleet import reconciler
from homeport.control.fleet.agenda import WHOLE_S, Agenda
from homeport.control.fleet.calm import PASS_S, until
from homeport.control.fleet.member import Member, Stage
from homeport.control.fleet.owner import Owner
from homeport.control.fleet.pool import Pool
from homeport.control.fleet.pools import Pools
from tests.control.fleet.house import KEY, House
from tests.fakes import FakeNode
from tests.waiting import virtual, virtually

SHARE = 8


def filled(count: int, *, members: int = 1, busy: bool = False) -> tuple[Pools, Agenda]:
    """Return so many pools, each with containers that are ready."""
    pools = Pools()
    agenda = Agenda(pools, share=SHARE, many=SHARE)
    for number in range(count):
        spec = FunctionSpec(name="f", module="m", qualname="f", min_containers=members)
        key = PoolKey(f"app-{number}", "f", "rv-1")
        pool = Pool(key=key, function=spec, source="", owner=Owner.app(MAIN, key.app))
        pool.used_at = -math.inf
        pools.add(pool)
        for each in range(members):
            pools.enlist(pool, Member(id=f"ta-{number}-{each}", stage=Stage.READY))
        if busy:
            pool.load = Load(running=1)
    return pools, agenda


def one_pass(agenda: Agenda, now: float) -> list[str]:
    """Make a pass; return the apps of its pools."""
    looked_at = agenda.begin(now)
    agenda.end(looked_at, now)
    agenda.watch(agenda.quiet(now))
    return [pool.key.app for pool in looked_at]


@pytest.mark.parametrize("busy", [False, True])
def test_each_pool_has_its_turn_and_no_pass_is_large(busy):
    _, agenda = filled(30, busy=busy)
    seen: list[set[str]] = []
    for number in range(30):
        apps = one_pass(agenda, number * PASS_S)
        assert len(apps) == len(set(apps)) <= SHARE // 2 + 3
        seen.append(set(apps))

    # 60 pools and containers, and each pass looks at a quarter of its share of each kind at least.
    assert 30 == len(set.union(*seen[:15]))
    if busy:
        assert 30 == len(set.union(*seen[15:]))
    else:
        assert not any(seen[-5:])  # all are quiet
        assert agenda.next_at(30 * PASS_S) > 30 * PASS_S


def test_a_pool_with_an_event_goes_first_and_holds_up_no_other():
    pools, agenda = filled(30, busy=True)
    first = pools.get(PoolKey("app-17", "f", "rv-1"))
    for number in range(20):  # each has had its first turn
        one_pass(agenda, number * PASS_S)
    others = set()
    for number in range(20, 60):
        agenda.note(first)
        apps = one_pass(agenda, number * PASS_S)
        assert "app-17" == apps[0]
        others |= set(apps)

    assert 30 == len(others)


def test_a_pool_of_more_than_a_share_is_looked_at_and_holds_up_no_other():
    pools, agenda = filled(10, busy=True)
    large = pools.get(PoolKey("app-3", "f", "rv-1"))
    for number in range(10 * SHARE):
        pools.enlist(large, Member(id=f"large-{number}", stage=Stage.READY))
    for number in range(20):  # each has had its first turn
        one_pass(agenda, number * PASS_S)
    others = set()
    for number in range(20, 60):
        agenda.note(large)
        apps = one_pass(agenda, number * PASS_S)
        assert "app-3" in apps
        others |= set(apps)

    assert 10 == len(others)


def test_a_look_at_all_pools_begins_again_after_the_end_of_the_one_before():
    _, agenda = filled(30)
    at, seen = 0.0, set()
    while len(seen) < 30:
        seen |= set(one_pass(agenda, at))
        ended, at = at, at + PASS_S

    assert not agenda.is_whole(ended + WHOLE_S - PASS_S)
    assert agenda.is_whole(ended + WHOLE_S)


def test_pools_that_a_pass_has_no_time_for_are_in_the_next_one():
    pools, agenda = filled(30, busy=True)
    agenda.begin(0.0)
    left = [pools.get(PoolKey(f"app-{number}", "f", "rv-1")) for number in (5, 6)]
    agenda.leave(left)
    assert agenda.next_at(0.0) <= 0.0

    assert ["app-5", "app-6"] == [pool.key.app for pool in agenda.begin(PASS_S)[:2]]


def test_nothing_is_kept_of_pools_that_are_removed_nor_of_times_that_have_changed():
    pools, agenda = filled(30)
    for number in range(2000):
        now = number * PASS_S
        for pool in [*pools][:5]:
            pool.peak.record(1, now)
            agenda.rouse(pool)
        one_pass(agenda, now)
    assert len(agenda._due) <= 2 * 30 + 100
    for pool in pools:
        for name in list(pool.members):
            pools.discharge(name)
        pools.remove(pool)

    assert not agenda._due_at
    assert not any((agenda._noted, agenda._fresh, agenda._unseen, agenda._at, agenda._watched))


visits = st.lists(
    st.tuples(
        st.floats(0.0, 20.0).map(lambda at: round(at, 2)),
        st.integers(0, 5),
        st.sampled_from([0.01, 0.3, 4.0]),
    ),
    max_size=12,
)


@settings(max_examples=25)
@given(visits)
def test_every_request_is_answered_and_every_container_ends_whatever_a_pass_looks_at(visits):
    async def story(share: int) -> tuple[int, int]:
        function = {"max_inputs": 1, "scaledown_window_s": 3.0}
        async with House(FakeNode(0.1), **function) as house:
            keys = [KEY, *(PoolKey("app", f"g{number}", "rv-1") for number in range(5))]
            for key in keys[1:]:
                house.add(key, **function)
            house.reconciler._comparing._share = share
            house.reconciler._agenda._share = house.reconciler._agenda._many = share

            async def visit(at: float, pool: int, duration_s: float) -> None:
                await asyncio.sleep(at)
                await house.ingress.visit(keys[pool], duration_s)

            await asyncio.gather(*(visit(*each) for each in visits))
            await asyncio.sleep(30)
            failed = sum(pool.failed_starts for pool in house.pools)
            return failed, len(house.node.containers)

    assert (0, 0) == virtually(story(10**6)) == virtually(story(3))


@virtual
async def test_a_burst_of_starts_takes_several_passes_if_each_is_dear():
    many = [FakeNode(0.1, name=f"n{number}") for number in range(200)]
    async with House(*many, min_containers=150) as house:
        starts, decide = [], house.reconciler._decide

        async def counted(pool: Pool) -> None:
            before = len(pool.members)
            await decide(pool)
            starts.append(len(pool.members) - before)

        house.reconciler._decide = counted
        await asyncio.sleep(3)

        assert max(starts) <= reconciler.MOST_TURNS * reconciler.TURN // len(many) + 1
        assert 150 == sum(len(node.started) for node in many) == len(house.pool.members)


def test_a_pool_that_is_under_way_stays_on_the_agenda():
    pools, agenda = filled(30)
    for number in range(20):
        one_pass(agenda, number * PASS_S)
    pool = pools.get(PoolKey("app-9", "f", "rv-1"))
    pool.load = Load(running=1)
    agenda.rouse(pool)
    for number in range(20, 40):
        one_pass(agenda, number * PASS_S)

    assert until(pool, 40 * PASS_S) <= 40 * PASS_S
    assert [pool] == agenda.under_way()
