"""Class parameters choose pools; failures make starts wait."""

import asyncio
import dataclasses

import pytest

from homeport.contract.errors import NotFound, StartError
from homeport.contract.manifest import FunctionSpec, Parameter, WebKind, WebMethod
from homeport.contract.scope import MAIN
from homeport.contract.traffic import Load, PoolKey
from homeport.control.fleet import pools as module
from homeport.control.fleet.member import Member, Stage
from homeport.control.fleet.owner import Owner
from homeport.control.fleet.pool import Pool
from homeport.control.fleet.pools import Pools
from tests.waiting import turns

SIZE = Parameter(name="size", type="int", required=True)
LOUD = Parameter(name="loud", type="bool", required=False, default=False)
NAME = Parameter(name="name", type="str", required=False, default="x")
DECLARED = (SIZE, LOUD, NAME)


def pool(*parameters, **spec):
    function = FunctionSpec(
        name="Model.*", module="m", qualname="Model", parameters=parameters, **spec
    )
    return Pool(
        key=PoolKey("app", "Model.*", "rv-1"),
        function=function,
        source="",
        owner=Owner.app(MAIN, "app"),
    )


async def test_each_set_of_parameters_is_a_pool_of_its_own():
    pools = Pools()
    pools.add(pool(*DECLARED))
    three = pools.called_for(PoolKey("app", "Model.*", "rv-1", "size=3"))
    four = pools.called_for(PoolKey("app", "Model.*", "rv-1", "size=4"))

    assert three is pools.called_for(PoolKey("app", "Model.*", "rv-1", "loud=false&size=3"))
    assert three is not four
    assert {"size": 4, "loud": False, "name": "x"} == four.parameters


def test_nothing_is_made_for_an_app_that_has_stopped():
    pools = Pools()
    with pytest.raises(NotFound):
        pools.called_for(PoolKey("app", "f", "rv-9"))

    assert [] == list(pools)


def test_failed_starts_wait_longer_and_longer():
    subject = pool()
    waits = []
    for _ in range(9):
        subject.failed(StartError("no"), 100.0)
        waits.append(max(subject.retry_at - 100.0, 0))

    assert waits == [0, 0.5, 1, 2, 4, 8, 16, 30, 30]


def test_a_function_whose_starts_fail_for_days_still_waits_between_them():
    subject = pool()
    for _ in range(5000):
        subject.failed(StartError("no"), 100.0)

    assert 130.0 == subject.retry_at


async def test_everyone_who_waits_is_told_of_a_failure():
    subject = pool()
    waiting = [asyncio.create_task(subject.first_ready()) for _ in range(3)]
    await turns(1)
    subject.failed(StartError("no module named torch"), 0.0)
    told = await asyncio.gather(*waiting, return_exceptions=True)

    assert [str(error) for error in told] == ["no module named torch"] * 3


async def test_of_single_use_containers_each_lets_one_visitor_in_who_came_first():
    once = pool(single_use=True)
    waiting = [asyncio.get_running_loop().create_future() for _ in range(4)]
    once.parked = dict.fromkeys(waiting, 0.0)
    once.members = {
        name: Member(id=name, stage=Stage.READY, held=held)
        for name, held in {"fresh": 0, "used": 1, "fresh too": 0}.items()
    }
    once.succeeded(0.0)

    assert [True, True, False, False] == [future.done() for future in waiting]


async def test_a_pool_that_is_demoted_may_be_promoted_again():
    subject = pool(min_containers=2)
    subject.floor = 2
    subject.members["ta-1"] = Member(id="ta-1", stage=Stage.READY)
    parked = asyncio.get_running_loop().create_future()
    subject.parked[parked] = 0.0
    subject.demote(5.0)
    left_s = subject.cut_at - asyncio.get_running_loop().time()

    assert (True, 0) == (subject.demoted, subject.floor)
    assert 4.0 < left_s <= 5.0
    assert subject.members["ta-1"].before  # it served already, so it may go on
    assert parked.done()
    subject.retire(1.0)
    assert (True, 1.0) == (subject.retired, subject.drain_s)
    subject.promote()
    assert (False, False) == (subject.demoted, subject.retired)
    assert not subject.members["ta-1"].before


async def test_requests_are_refused_only_if_no_container_can_answer():
    subject = pool()
    parked = asyncio.get_running_loop().create_future()
    subject.parked[parked] = 0.0
    watching = asyncio.create_task(subject.first_ready())
    await turns(1)
    subject.refuse(StartError("no"))
    with pytest.raises(StartError):
        await watching

    assert isinstance(parked.exception(), StartError)
    assert not subject.watchers
    subject.members["ta-1"] = Member(id="ta-1", stage=Stage.READY)
    await subject.first_ready()


def test_a_container_is_busy_with_a_request_or_with_work_after_one():
    subject = pool()
    stages = {"idle": Stage.READY, "serves": Stage.READY, "works on": Stage.READY}
    stages |= {"starts": Stage.STARTING, "drains": Stage.DRAINING, "stops": Stage.STOPPING}
    stages |= {"still serves": Stage.DRAINING}
    held = {"works on": 1}
    subject.members = {
        name: Member(id=name, stage=stage, held=held.get(name, 0)) for name, stage in stages.items()
    }
    subject.load = Load(running=2, queued=0, per_container={"serves": 1, "still serves": 1})

    assert ["idle"] == [member.id for member in subject.idle()]
    assert ["drains", "stops"] == subject.leaving()
    assert {"serves", "works on", "still serves"} == {
        member.id for member in subject.members.values() if subject.busy(member)
    }


async def test_a_failed_start_refuses_nobody_while_another_container_answers():
    subject = pool()
    subject.members["ta-1"] = Member(id="ta-1", stage=Stage.READY)
    parked = asyncio.get_running_loop().create_future()
    subject.parked[parked] = 0.0
    subject.failed(StartError("no"), 0.0)

    assert not parked.done()


@pytest.mark.parametrize(
    ("waited_s", "starting", "max_inputs"),
    [(9.0, 0, 1), (8.0, 1, 1), (7.0, 1, 2), (0.0, 3, 1), (0.0, 1, 100)],
)
async def test_the_next_container_is_for_the_first_visitor_whom_no_other_will_take(
    waited_s, starting, max_inputs
):
    subject = pool(max_inputs=max_inputs)
    subject.members = {f"ta-{n}": Member(id=f"ta-{n}") for n in range(starting)}
    for since in (1.0, 2.0, 3.0):
        subject.parked[asyncio.get_running_loop().create_future()] = since

    assert waited_s == subject.waited_s(10.0)


def test_a_port_allows_one_container_whatever_is_asked_for():
    from homeport.contract.manifest import WebKind, WebMethod

    web = WebMethod(tag="s", attribute="s", kind=WebKind.WEB_SERVER, port=8000)
    subject = pool(web=(web,), min_containers=3, max_containers=5)

    assert (subject.bounds.min_containers, subject.bounds.max_containers) == (1, 1)


async def test_a_functions_numbers_are_those_of_all_its_parameters_and_never_go_back():
    pools, base = Pools(), pool(SIZE, NAME)
    pools.add(base)
    small, large = (
        pools.called_for(PoolKey("app", "Model.*", "rv-1", f"size={size}")) for size in (1, 2)
    )
    other = Pool(
        key=PoolKey("app", "g", "rv-1"),
        function=base.function,
        source="",
        owner=Owner.app(MAIN, "app"),
    )
    pools.add(other)
    for each in (base, small, large, other):
        each.load = Load(running=1, queued=2, served=10, errors=3)
        each.cold_starts, each.failed_starts = 2, 1
    small.parked[asyncio.get_running_loop().create_future()] = 0.0
    before = pools.totals(base.key)
    pools.remove(large)
    after = pools.totals(small.key)

    assert (3, 7, 30, 9, 6, 3) == dataclasses.astuple(before)
    assert (2, 5, 30, 9, 6, 3) == dataclasses.astuple(after)


def test_the_end_of_a_pool_is_told_after_it_is_forgotten():
    pools, told = Pools(), []
    known = pool(SIZE)
    pools.add(known)
    pools.on_removed.append(lambda gone: told.append((gone, pools.get(gone.key))))
    pools.remove(known)

    assert [(known, None)] == told


def test_requests_in_a_stopped_container_are_no_demand_and_those_in_others_are():
    subject = pool()

    def look(served: int, **served_by: int) -> bool:
        subject.load = Load(served=served, served_by=served_by)
        return subject.look()

    assert look(1, one=1)
    subject.give_up("one")
    assert not look(2, one=2)
    subject.detached("one", served=4)
    assert not look(2, one=2)  # a look that began before
    assert not look(4)
    subject.detached("one", served=9)  # told once more
    assert look(5, two=1)
    assert not look(5, two=1)


def test_an_ingress_that_starts_to_count_again_makes_no_demand():
    subject = pool()
    subject.load = Load(served=7, served_by={"one": 7})
    assert subject.look()
    subject.give_up("one")
    subject.load = Load(served=7, served_by={"one": 0})  # its counters are of a new process
    assert not subject.look()
    subject.detached("one", served=1)
    subject.load = Load(served=8)
    assert subject.look()  # one too many, rather than one too few


def test_a_container_that_runs_for_long_is_known_however_many_came_after_it(monkeypatch):
    monkeypatch.setattr(module, "PAST", 3)
    pools, subject = Pools(), pool()
    pools.add(subject)
    for number in range(5):
        pools.enlist(subject, Member(id=f"ta-{number}"))
    for number in (1, 4):
        pools.discharge(f"ta-{number}")

    assert ["rv-1", "", "rv-1"] == [pools.revision_of(f"ta-{n}") for n in (0, 1, 4)]
    assert [subject.owner, None, subject.owner] == [pools.owner_of(f"ta-{n}") for n in (0, 1, 4)]


@pytest.mark.parametrize("name", ["add", "open"])
async def test_a_pool_takes_no_port_of_this_machine_where_containers_have_their_own(name):
    pools = Pools()
    pools.own_ports = True
    getattr(pools, name)(
        pool(web=(WebMethod(tag="x", attribute="x", kind=WebKind.WEB_SERVER, port=80),))
    )
    (added,) = pools

    assert (80,) == tuple(added.function.ports)
    assert () == added.ports
