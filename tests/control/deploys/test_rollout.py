"""A change of what serves happens whole or not at all, wherever it fails."""

import asyncio
import threading
from collections import deque

import pytest

from homeport.contract.api.deploys import Canary
from homeport.contract.capacity import Capacity
from homeport.contract.errors import BadRequest, Failure, IngressError, LabelTaken, StartError
from homeport.contract.image import Image, Step
from homeport.contract.scope import MAIN
from homeport.control.fleet.owner import Owner
from tests.control.plane import Plane, function, manifest
from tests.fakes import FakeNode, no_fault
from tests.waiting import virtually

TENTH = Canary(percent=10)
F, G, GONE = "me--shop-f", "me--shop-g", "me--shop-gone"
FIRST = manifest(function("f"), function("gone", secret="a"))
SECOND = manifest(function("f", secret="b"), function("g"))
PORTS = manifest(function("f", port=8000)), manifest(function("f", port=8000), function("g"))


async def settled(plane: Plane) -> None:
    """Wait on the virtual clock until all draining containers have ended."""
    async with asyncio.timeout(300):
        rollout = plane.rollout
        while any(pool.retired for pool in plane.pools) or rollout._tasks or rollout.trees._tasks:
            await asyncio.sleep(0.1)


async def rolling(plane: Plane) -> None:
    await plane.deploy(SECOND)


async def recreated(plane: Plane) -> None:
    await plane.deploy(SECOND, "recreate")


async def rolled_back(plane: Plane) -> None:
    await plane.roll_back(version=1)


async def port_swapped(plane: Plane) -> None:
    await plane.deploy(PORTS[1])


async def stopped(plane: Plane) -> None:
    await plane.deployer.stop_app(MAIN, "shop")


async def reloaded(plane: Plane) -> None:
    await plane.deployer.sessions.reload(MAIN, "one", SECOND)


async def stolen(plane: Plane) -> None:
    await plane.deployer.sessions.serve(MAIN, "two", SECOND, lambda _text: None)


async def deployed(plane: Plane) -> None:
    await plane.deploy(FIRST)


async def with_port(plane: Plane) -> None:
    await plane.deploy(PORTS[0])


async def served(plane: Plane) -> None:
    await plane.deployer.sessions.serve(MAIN, "one", FIRST, lambda _text: None)


async def with_canary(plane: Plane) -> None:
    await plane.deploy(FIRST)
    await canaried(plane)


async def canaried(plane: Plane) -> None:
    await plane.deployer.deploy(
        MAIN, "shop", SECOND, tag="", strategy="rolling", say=lambda _text: None, canary=TENTH
    )


async def promoted(plane: Plane) -> None:
    await plane.deployer.promote(MAIN, "shop", "hand")


CHANGES = {
    "rolling": (deployed, rolling),
    "recreate": (deployed, recreated),
    "rollback": (deployed, rolled_back),
    "port": (with_port, port_swapped),
    "stop": (deployed, stopped),
    "reload": (served, reloaded),
    "steal": (served, stolen),
    "canary": (deployed, canaried),
    "promote": (with_canary, promoted),
}


#: Calls whose argument is the same in each story; of the others, the first one fails.
NAMED = {"route", "unroute", "prepare", "split"}


def steps(tmp_path, name: str) -> list[tuple[str, str, int]]:
    """Return the calls that a change makes if nothing fails, as (call, its argument)."""
    first, change = CHANGES[name]

    async def story():
        async with Plane(tmp_path / "clean") as plane:
            await first(plane)
            before = len(plane.ingress.calls), len(plane.node.calls), len(plane.stores.calls)
            await change(plane)
            calls = [
                *plane.ingress.calls[before[0] :],
                *plane.node.calls[before[1] :],
                *plane.stores.calls[before[2] :],
            ]
            await plane.check_whole()
            return list(dict.fromkeys(calls))

    (tmp_path / "clean").mkdir()
    return virtually(story())


def broken(plane: Plane, call: str, what: str, when: str, error: Exception):
    """As `breaking`, but for calls whose argument differs in each story, such as a container's id."""
    fixed = what if call in NAMED else None
    failed = []

    def fault(name, argument, moment):
        if (name, moment) == (call, when) and fixed in (None, argument) and not failed:
            failed.append(argument)
            raise error

    async def asynchronous(name, argument, moment):
        fault(name, argument, moment)

    plane.ingress.fault = plane.node.fault = asynchronous
    plane.stores.fault = fault
    return failed


async def examined(home, name: str, faults: deque, let, check) -> list[tuple]:
    """Examine faults on one plane until a change goes through in spite of one; return those that refused it.

    A refused change leaves everything as it was, so the next fault meets the same plane.
    """
    first, change = CHANGES[name]
    refusals = []
    async with Plane(home) as plane:
        await first(plane)
        await settled(plane)
        before = await plane.state()
        while faults:
            fault = faults.popleft()
            met = let(plane, *fault)
            try:
                await change(plane)
            except Failure:
                refusals.append(fault)
            await settled(plane)
            await plane.check_whole()
            if fault not in refusals:
                if not met and refusals:
                    faults.appendleft(fault)  # a number in its name is another one after refusals
                return refusals
            assert met, fault
            assert before == await plane.state(), fault
            await check(plane, before)
        no_fault_more(plane)
        await change(plane)
        await plane.check_whole()
    return refusals


def no_fault_more(plane: Plane) -> None:
    plane.ingress.fault = plane.node.fault = no_fault
    plane.stores.fault = lambda _call, _what, _when: None


def refused(tmp_path, name: str, faults, let, check) -> list[tuple]:
    """Examine all faults, on as few planes as they need; return those that refused the change."""
    waiting, refusals = deque(faults), []
    while waiting:
        home = tmp_path / str(len(waiting))  # at least one fault fewer each time
        home.mkdir()
        refusals += virtually(examined(home, name, waiting, let, check))
    return refusals


@pytest.mark.parametrize("name", CHANGES)
def test_wherever_a_change_fails_what_served_before_serves_on(tmp_path, name):
    tried = {(call, what if call in NAMED else "") for call, what in steps(tmp_path, name)}
    faults = [(*step, when) for when in ("before", "after") for step in sorted(tried)]
    assert len(tried) > 3

    def let(plane, call, what, when):
        return broken(plane, call, what, when, IngressError(f"{call} fails"))

    async def check(plane, before):
        for endpoint in before["endpoints"]:
            assert (await plane.visit(endpoint)).pool.app == "shop"

    assert len(refused(tmp_path, name, faults, let, check)) > 3


@pytest.mark.parametrize("name", ["rolling", "recreate", "port", "reload", "canary"])
def test_wherever_a_change_is_ended_what_served_before_serves_on(tmp_path, name):
    awaited = {"route", "unroute", "prepare", "free_port"}
    tried = [step for step in steps(tmp_path, name) if step[0] in awaited]
    faults = [(*step, when) for when in ("before", "after") for step in tried]

    def let(plane, call, what, when):
        ended = []

        async def end(name, argument, moment):
            if (name, moment) == (call, when) and what in (argument, "") and not ended:
                ended.append(argument)
                for running in plane.deployer._changes:
                    running.end(BadRequest("ended"))
            await asyncio.sleep(0)

        plane.ingress.fault = plane.node.fault = end
        return ended

    async def check(_plane, _before):
        pass

    assert len(refused(tmp_path, name, faults, let, check)) > 3


def test_an_ingress_that_fails_for_longer_gets_everything_back_when_it_obeys_again(tmp_path):
    async def story():
        async with Plane(tmp_path) as plane:
            await plane.deploy(FIRST)
            await settled(plane)
            before = await plane.state()
            healed = []

            async def fault(call, what, when):
                if call in {"route", "unroute"} and (call, what) != ("route", F) and not healed:
                    raise IngressError("HAProxy does not answer")

            plane.ingress.fault = fault
            with pytest.raises(IngressError):
                await plane.deploy(SECOND)
            await asyncio.sleep(7)
            healed.append(True)
            await asyncio.sleep(6)

            assert before == await plane.state()
            await plane.check_whole()

    virtually(story())


def test_a_deploy_that_fails_to_start_takes_no_port_for_good(tmp_path):
    async def story():
        node = FakeNode(0.1, fails=lambda order: order.function.name == "g")
        async with Plane(tmp_path, node) as plane:
            await plane.deploy(FIRST)
            for _ in range(3):
                with pytest.raises(StartError):
                    await plane.deploy(SECOND)

            assert 3 == len(plane.ingress.ports)

    virtually(story())


def test_two_deploys_at_once_do_not_get_the_same_url(tmp_path):
    first_app = manifest(function("f"), app="a-b")
    two = manifest(function("b_f"), app="a")

    async def story():
        async with Plane(tmp_path) as plane:
            first, second = await asyncio.gather(
                plane.deploy(first_app), plane.deploy(two), return_exceptions=True
            )
            await plane.check_whole()
            return first, second

    first, second = virtually(story())
    assert "a-b" == first.app.name
    assert isinstance(second, LabelTaken)


def test_a_swap_that_fails_late_finds_the_old_container_or_starts_it_again(tmp_path):
    first, second = PORTS

    async def story():
        node = FakeNode(0.5, fails=lambda order: order.function.name == "g")
        async with Plane(tmp_path, node) as plane:
            await plane.deploy(first)
            served = await plane.visit(F)
            visits = []

            async def visitor():
                while True:
                    visits.append(await plane.visit(F))
                    await asyncio.sleep(0.05)

            task = asyncio.create_task(visitor())
            with pytest.raises(StartError):
                await plane.deploy(second)
            await asyncio.sleep(2)
            task.cancel()
            await settled(plane)
            await plane.check_whole()
            after = await plane.visit(F)
            orphans = [c for c in node.containers if plane.pools.of_container(c.id) is None]

            assert not task.done() or task.cancelled()
            assert served.pool.revision == after.pool.revision
            assert [] == orphans

    virtually(story())


def test_a_visitor_of_a_program_whose_version_is_replaced_just_then_gets_an_answer(tmp_path):
    async def story():
        async with Plane(tmp_path, FakeNode(0.3)) as plane:
            await plane.deploy(PORTS[0])
            old = plane.ingress.endpoints[F].pool
            deploying = asyncio.create_task(plane.deploy(PORTS[1]))
            while not plane.pools.get(old).retired:
                await asyncio.sleep(0)
            # It had been led to the old pool, and asks for a container of it only now.
            await plane.activator.park(old)
            await deploying
            answer = await plane.visit(F)

            assert answer.pool.revision == plane.parts.live.get(Owner.app(MAIN, "shop")).revision.id

    virtually(story())


def test_files_that_are_being_written_when_a_deploy_is_stopped_go_too(tmp_path):
    writing, may_write, written = (threading.Event() for _ in range(3))

    async def story():
        async with Plane(tmp_path) as plane:
            lay_out = plane.blobs._lay_out

            def slowly(files, tree):
                writing.set()
                may_write.wait(60)
                lay_out(files, tree)
                written.set()

            plane.blobs._lay_out = slowly
            deploying = asyncio.create_task(plane.deploy(FIRST))
            await asyncio.to_thread(writing.wait, 60)
            stopping = asyncio.create_task(plane.deployer.stop_app(MAIN, "shop"))
            changes = plane.deployer._changes
            while not any(change.ended_by for change in changes):
                await asyncio.sleep(0.01)
            may_write.set()
            with pytest.raises(Failure, match="stopped"):
                await deploying
            await stopping
            assert await asyncio.to_thread(written.wait, 60)
            await settled(plane)

            assert [] == [*plane.rollout.trees.directory.iterdir()]

    virtually(story())


def test_a_node_that_was_away_during_a_build_builds_when_it_returns(tmp_path):
    async def story():
        away = FakeNode(0.2, name="away")
        image = Image(steps=(Step(name="pip_install", args={"packages": ["x"]}),))
        async with Plane(tmp_path, None, away) as plane:
            away.is_cut = True
            await asyncio.sleep(5)
            await plane.deploy(manifest(function("f", image=image)))
            before = list(away.prepared)
            away.is_cut = False
            await asyncio.sleep(5)

            assert ([], [image.key]) == (before, away.prepared)
            assert plane.nodes.mirrors["away"].stock.has_image(image)
            away.is_cut = True
            await asyncio.sleep(5)
            away.is_cut = False
            await asyncio.sleep(5)
            assert [image.key] == away.prepared  # it has it now
            assert [] == plane.rollout.trees.underway

    virtually(story())


@pytest.mark.parametrize("count", [50, 20])
def test_containers_that_have_no_place_beside_the_old_ones_replace_them_at_once(tmp_path, count):
    def version(label: str):
        functions = [
            function(f"f{number}", secret=label, min_containers=1) for number in range(count)
        ]
        return manifest(*functions)

    async def story() -> tuple[float, int]:
        node = FakeNode(0.1, capacity=Capacity(cores=8, memory_mib=16_000, places=64))
        async with Plane(tmp_path, node) as plane:
            await plane.deploy(version("a"))
            node.most = 0
            began = asyncio.get_running_loop().time()
            await plane.deploy(version("b"))
            took_s = asyncio.get_running_loop().time() - began
            await settled(plane)
            assert count == len(plane.nodes.containers())
            return took_s, node.most

    took_s, most = virtually(story())

    assert took_s < 60
    assert (
        2 * 20 == most or count == 50
    )  # where there is room the old ones serve until the new ones do
