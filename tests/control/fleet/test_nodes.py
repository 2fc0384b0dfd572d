"""The control plane's copy of each node's list, and what becomes of a node that does not answer."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from homeport.contract.capacity import Capacity
from homeport.contract.container import Container, State
from homeport.contract.errors import ImageError, NodeLost
from homeport.contract.image import Image, Step
from homeport.contract.listing import Change, Mark
from homeport.contract.manifest import VolumeMount
from homeport.contract.supplies import Supplies
from homeport.control.fleet.mirror import ANSWER_S, Health
from homeport.control.fleet.nodes import Nodes
from tests.control.fleet.house import KEY, House, elapsed
from tests.fakes import FakeNode
from tests.orders import order
from tests.waiting import virtually

GIVEN_UP_S = 14  # one beat, `gone_s`, and the beat that notices it
SMALL = Capacity(cores=4, memory_mib=4096)
IMAGE = Image(steps=(Step(name="pip_install", args={"packages": ["x"]}),))


@asynccontextmanager
async def opened(*fakes: FakeNode) -> AsyncIterator[tuple[Nodes, list[Container]]]:
    """Watch these nodes; yield them and every change that they report."""
    told: list[Container] = []
    nodes = Nodes(fakes, on_line=lambda _line: None)
    nodes.watch(told.append)
    await nodes.open()
    try:
        yield nodes, told
    finally:
        await nodes.close()


def two() -> tuple[FakeNode, FakeNode]:
    return FakeNode(0.1, name="a", capacity=SMALL), FakeNode(0.1, name="b", capacity=SMALL)


def same(nodes: Nodes, *fakes: FakeNode) -> bool:
    """Return whether the copy equals the nodes' own lists."""
    real = {(c.id, c.state, c.node) for fake in fakes for c in fake.containers}
    return real == {(c.id, c.state, c.node) for c in nodes.containers()}


def test_the_list_follows_each_node_without_being_asked_for():
    async def story():
        a, b = two()
        async with opened(a, b) as (nodes, told):
            await nodes.start("a", order("ta-1"), {})
            await nodes.start("b", order("ta-2"), {})
            assert same(nodes, a, b)
            await asyncio.sleep(0.2)
            assert same(nodes, a, b)
            nodes.stop("ta-1")
            await asyncio.sleep(0.01)

            assert same(nodes, a, b)
            assert ["ta-2"] == [container.id for container in nodes.containers()]
            assert [State.STARTING, State.READY, State.DRAINING, State.GONE] == [
                container.state for container in told if container.id == "ta-1"
            ]

    virtually(story())


def test_containers_from_before_are_in_the_first_list():
    async def story():
        a, b = two()
        await a.start(order("ta-1"), {})
        async with opened(a, b) as (nodes, _):
            assert same(nodes, a, b)

    virtually(story())


@pytest.mark.parametrize("change", ["start", "kill", "hold"])
def test_a_change_that_was_lost_is_made_good_by_the_next_one_or_in_a_second(change):
    async def story():
        a, b = two()
        async with opened(a, b) as (nodes, told):
            await nodes.start("a", order("ta-1"), {})
            await asyncio.sleep(0.2)
            a.deaf = True
            if change == "start":
                await a.start(order("ta-2"), {})
                await asyncio.sleep(0.2)
            elif change == "kill":
                a.kill("ta-1")
            else:
                a.hold("ta-1", 1)
            a.deaf = False
            assert not (change == "kill" and same(nodes, a, b))
            await asyncio.sleep(1.1)

            assert same(nodes, a, b)
            assert a.containers == nodes.containers()
            assert told[-1].state is (State.GONE if change == "kill" else State.READY)

    virtually(story())


def test_a_gap_asks_for_the_list_at_once_and_an_old_change_is_ignored():
    async def story():
        a, b = two()
        async with opened(a, b) as (nodes, told):
            a.deaf = True
            await a.start(order("ta-1"), {})
            a.deaf = False
            await a.start(order("ta-2"), {})
            await asyncio.sleep(0.01)
            assert same(nodes, a, b)
            before = len(told)
            ended = Container(order=order("ta-2"), state=State.GONE)
            a._changed(Change(mark=Mark(run="1", number=1), container=ended))

            assert before == len(told)
            assert same(nodes, a, b)

    virtually(story())


def test_an_agent_that_has_begun_again_is_asked_for_its_list():
    async def story():
        a, b = two()
        async with opened(a, b) as (nodes, told):
            await nodes.start("a", order("ta-1"), {})
            await nodes.start("a", order("ta-2"), {})
            await asyncio.sleep(0.2)
            a.is_cut = True
            a.kill("ta-1")
            a.begin_again()
            a.is_cut = False
            await asyncio.sleep(1.1)

            assert same(nodes, a, b)
            assert ("ta-1", State.GONE) == (told[-1].id, told[-1].state)

    virtually(story())


def test_a_node_that_is_silent_for_a_moment_keeps_its_containers_and_gets_no_new_one():
    async def story():
        a, b = two()
        async with opened(a, b) as (nodes, told):
            await nodes.start("a", order("ta-1"), {})
            await asyncio.sleep(0.2)
            told.clear()
            a.is_cut = True
            with pytest.raises(NodeLost):
                await nodes.start("a", order("ta-2"), {})
            assert ["b"] == [mirror.name for mirror in nodes.ready()]
            nodes.stop("ta-1")
            await asyncio.sleep(5)
            assert ["ta-1"] == [container.id for container in nodes.containers()]
            assert [] == told
            a.is_cut = False
            await asyncio.sleep(1.1)

            assert ["a", "b"] == [mirror.name for mirror in nodes.ready()]
            assert [] == nodes.containers()  # the stop has arrived by now
            assert [] == a.containers

    virtually(story())


def test_a_node_that_hangs_is_suspect_too():
    async def story():
        a, b = two()

        async def mark():
            await asyncio.sleep(3600)

        async with opened(a, b) as (nodes, _):
            a.mark = mark
            await asyncio.sleep(4)

            assert Health.SUSPECT is nodes.mirrors["a"].health

    virtually(story())


def test_a_node_that_stays_silent_is_given_up_and_fenced_when_it_comes_back():
    async def story():
        a, b = two()
        async with opened(a, b) as (nodes, told):
            await nodes.start("a", order("ta-1"), {})
            await asyncio.sleep(0.2)
            a.is_cut = True
            await asyncio.sleep(GIVEN_UP_S)
            assert Health.GONE is nodes.mirrors["a"].health
            assert ("ta-1", State.LOST) == (told[-1].id, told[-1].state)
            assert [] == nodes.containers()
            assert [State.READY] == [container.state for container in a.containers]
            a.is_cut = False
            await asyncio.sleep(1.1)
            assert [] == a.containers
            assert State.LOST is told[-1].state  # and no change has been reported since
            await nodes.start("a", order("ta-2"), {})
            await asyncio.sleep(0.2)

            assert same(nodes, a, b)
            assert 1 == a.generation

    virtually(story())


def test_containers_of_a_lost_node_are_replaced_and_never_served_again():
    async def story():
        a, b = two()
        async with House(a, b, max_inputs=1, max_containers_here=3) as house:
            await asyncio.gather(*house.visits(4, 1.0))
            assert {"a": 2, "b": 2} == {n.name: len(n.containers) for n in (a, b)}
            lost = {container.id for container in a.containers}
            a.is_cut = True
            await asyncio.sleep(GIVEN_UP_S)
            began = elapsed()
            answers = await asyncio.gather(*house.visits(4, 1.0))
            assert elapsed() - began < 5
            assert not lost & set(answers)
            a.is_cut = False
            await asyncio.sleep(1.5)
            assert not lost & {container.id for container in a.containers}
            answers = await asyncio.gather(*house.visits(4, 1.0))

            assert not lost & set(answers)
            assert {"a", "b"} == {c.node for c in house.nodes.containers()}
            assert any("its node `a` does not answer" in line.text for line in house.said)

    virtually(story())


def test_a_start_on_a_node_that_is_lost_goes_to_another_and_the_visitor_hears_nothing_of_it():
    async def story():
        a, b = two()
        b.capacity = dataclasses.replace(b.capacity, memory_mib=1024)  # the second choice
        async with House(a, b) as house:
            await asyncio.sleep(0.5)
            a.is_cut = True
            answer = await house.ingress.visit(KEY, 0.1)

            assert [answer] == [container.id for container in b.containers]
            assert 0 == house.pool.failed_starts

    virtually(story())


def test_a_visitor_waits_while_no_node_answers_and_is_served_when_one_does():
    async def story():
        a, b = two()
        async with House(a, b) as house:
            a.is_cut = b.is_cut = True
            visit = house.visits(1, 0.1)
            await asyncio.sleep(5)
            assert not visit[0].done()
            b.is_cut = False
            await asyncio.gather(*visit)

            assert "waits for a node: none answers" in [line.text for line in house.said]

    virtually(story())


def test_an_image_is_built_on_each_node_and_containers_go_where_it_is():
    async def story():
        a, b = two()
        a.capacity = dataclasses.replace(a.capacity, memory_mib=1024)
        async with House(a, b, image=IMAGE) as house:
            b.is_cut = True
            await house.nodes.prepare(IMAGE, "/", Supplies(), lambda _text: None)
            b.is_cut = False
            await asyncio.sleep(1.5)
            await house.ingress.visit(KEY, 0.1)
            assert ["a"] == [container.node for container in house.nodes.containers()]
            told: list[str] = []
            await house.nodes.prepare(IMAGE, "/", Supplies(), told.append)

            assert ([IMAGE.key] * 2, [IMAGE.key]) == (a.prepared, b.prepared)
            assert all(mirror.stock.has_image(IMAGE) for mirror in house.nodes.ready())

    virtually(story())


async def fails(*_args):
    raise ImageError("no such package")


async def hangs(*_args):
    await asyncio.Event().wait()


async def prepared(nodes: Nodes, **how) -> None:
    await nodes.prepare(IMAGE, "/", Supplies(), lambda _text: None, **how)


def test_a_build_that_fails_on_each_node_fails_and_one_node_is_enough():
    async def story():
        a, b = two()
        async with opened(a, b) as (nodes, _):
            a.prepare = fails
            await prepared(nodes)
            assert nodes.lack(IMAGE)
            assert ["b"] == [
                mirror.name for mirror in nodes.ready() if mirror.stock.has_image(IMAGE)
            ]
            b.prepare = hangs
            building = asyncio.create_task(prepared(nodes))
            await asyncio.sleep(1)
            assert not building.done()
            b.is_cut = True
            await asyncio.sleep(GIVEN_UP_S)
            with pytest.raises(ImageError, match="no such package"):
                await building
            a.is_cut = True
            await asyncio.sleep(GIVEN_UP_S)
            with pytest.raises(NodeLost):
                await prepared(nodes)

    virtually(story())


def test_a_build_does_not_wait_for_a_slow_node_unless_it_is_asked_to():
    async def story():
        a, b = two()
        async with opened(a, b) as (nodes, _):
            prepare = a.prepare

            async def slow(*args):
                await asyncio.sleep(100)
                await prepare(*args)

            a.prepare = slow
            began = elapsed()
            await prepared(nodes)
            assert 0.5 == elapsed() - began
            assert nodes.lack(IMAGE)
            building = asyncio.create_task(prepared(nodes, everywhere=True))
            await asyncio.sleep(1)
            assert [True, False] == [
                nodes.mirrors[name].stock.is_building(IMAGE) for name in ("a", "b")
            ]
            await building

            assert 101 > elapsed() - began > 100
            assert not nodes.lack(IMAGE)
            assert not nodes.mirrors["a"].stock.is_building(IMAGE)

    virtually(story())


def test_a_build_waits_for_a_node_that_can_run_the_function():
    async def story():
        a, b = two()
        a.capacity = dataclasses.replace(a.capacity, has_mounts=True)
        async with opened(a, b) as (nodes, _):
            a.prepare = hangs
            building = asyncio.create_task(
                prepared(nodes, suits=lambda capacity: capacity.has_mounts)
            )
            await asyncio.sleep(60)
            assert not building.done()
            a.is_cut = True
            await asyncio.sleep(GIVEN_UP_S)
            with pytest.raises(NodeLost):
                await building

    virtually(story())


def test_the_first_containers_of_a_function_are_spread_and_the_next_ones_go_where_it_is_warm():
    async def story():
        a, b = two()
        b.capacity = dataclasses.replace(b.capacity, memory_mib=1024)
        async with House(a, b, min_containers=2, max_inputs=1) as house:
            await asyncio.sleep(2)
            assert {"a": 1, "b": 1} == {n.name: len(n.containers) for n in (a, b)}
            b.is_cut = True
            await asyncio.sleep(GIVEN_UP_S + 2)
            assert 2 == len(a.containers)
            assert "f" in {container.order.function.name for container in a.containers}
            assert 0 == house.pool.failed_starts

    virtually(story())


def test_a_second_container_waits_for_the_other_nodes_build_and_no_longer():
    async def story():
        a, b = two()
        async with House(a, b, image=IMAGE) as house:
            prepare, b.prepare = b.prepare, hangs
            await prepared(house.nodes)
            building = asyncio.create_task(prepared(house.nodes, everywhere=True))
            await asyncio.sleep(0.1)
            house.pool.minimum = 2
            house.reconciler.wake(house.pool)
            await asyncio.sleep(2)
            before = {n.name: len(n.containers) for n in (a, b)}
            building.cancel()
            b.prepare = prepare
            await prepared(house.nodes)
            await asyncio.sleep(2)

            assert {"a": 1, "b": 0} == before
            assert {"a": 1, "b": 1} == {n.name: len(n.containers) for n in (a, b)}

    virtually(story())


def test_volumes_and_networks_pin_a_function_to_the_nodes_that_have_them():
    async def story():
        a, b = two()
        a.capacity = dataclasses.replace(a.capacity, has_mounts=True, memory_mib=1024)
        volumes = (VolumeMount(path="/v", name="v"),)
        async with House(a, b, min_containers=2, volumes=volumes) as house:
            await asyncio.sleep(2)

            assert {"a": 2, "b": 0} == {n.name: len(n.containers) for n in (a, b)}
            assert 0 == house.pool.failed_starts

    virtually(story())


def test_a_node_with_free_cores_is_preferred_and_not_required():
    async def story():
        a, b = two()
        a.capacity = dataclasses.replace(a.capacity, cores=2)
        b.capacity = dataclasses.replace(b.capacity, memory_mib=1024)
        async with House(a, b, max_inputs=1, cpu=(2.0, None)) as house:
            await asyncio.gather(*house.visits(4, 1.0))

            assert {"a": 1, "b": 2} == {n.name: min(2, len(n.containers)) for n in (a, b)} | {
                "a": min(1, len(a.containers))
            }
            assert 4 == len(a.containers) + len(b.containers)

    virtually(story())


def test_without_any_region_regions_do_not_count_and_then_a_machine_without_one_is_in_none():
    async def story():
        a, b = two()
        async with opened(a, b) as (nodes, _):

            def regions() -> list[str | None]:
                return [nodes.mirrors[name].capacity.region for name in nodes.mirrors]

            assert [None, None] == regions()
            nodes.label("b", {"region": "eu", "disk": "ssd"})
            assert ["", "eu"] == regions()
            await nodes.mirrors["a"].sync()  # its list says nothing of it
            assert ["", "eu"] == regions()
            for name in nodes.mirrors:
                await nodes.start(name, order(f"ta-{name}"), {})
            assert ["", "eu"] == [node.started[-1].region for node in (a, b)]
            nodes.label("b", {"disk": "ssd"})
            assert [None, None] == regions()
            nodes.label("b", {"region": "eu"})
            nodes.remove("b")
            assert [None] == regions()

    virtually(story())


def test_nodes_that_do_not_answer_hold_up_no_other_when_all_are_asked_what_they_use():
    async def story():
        fakes = [FakeNode(0.1, name=name, capacity=SMALL) for name in "abcd"]
        async with opened(*fakes) as (nodes, _told):
            await nodes.start("a", order("ta-1"), {})
            await asyncio.sleep(0.2)

            async def hang():
                await asyncio.Event().wait()

            for fake in fakes[1:]:
                fake.usage = hang
            began = elapsed()
            used = await nodes.usage()

            assert {"ta-1"} == used.keys()
            assert elapsed() - began <= ANSWER_S

    virtually(story())


def test_a_question_to_a_node_that_has_hung_up_is_an_error_and_makes_it_suspect():
    async def story():
        a, b = two()
        async with opened(a, b) as (nodes, _told):
            a.has_agent = False
            with pytest.raises(NodeLost, match="`a` does not answer"):
                await nodes.mirrors["a"].build_log("key")
            assert nodes.mirrors["a"].health is Health.SUSPECT

    virtually(story())
