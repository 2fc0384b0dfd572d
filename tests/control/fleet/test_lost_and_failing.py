"""The reconciler with lost events, and with a node and an ingress that fail."""

import asyncio
import contextlib

import pytest

from homeport.contract.capacity import Capacity
from homeport.contract.container import State
from homeport.contract.errors import Failure, NodeLost
from homeport.contract.traffic import PoolKey
from tests.control.fleet.house import KEY, House, elapsed, faulty
from tests.fakes import FakeNode, no_fault
from tests.orders import order
from tests.waiting import virtually


def test_a_container_whose_end_was_not_reported_is_replaced():
    async def story():
        async with House(min_containers=1) as house:
            await asyncio.sleep(1)
            house.node.deaf = True
            house.node.kill(house.node.containers[0].id)
            house.node.deaf = False
            await asyncio.sleep(2)  # the node is asked once a second

            assert [State.READY] == [container.state for container in house.node.containers]
            assert "the node does not know it any more" in house.said[0].text
            await asyncio.gather(*house.visits(1, 0.1))

    virtually(story())


def test_a_container_that_the_node_ends_gently_is_replaced_and_gets_nobody_new():
    async def story():
        async with House(min_containers=1, max_containers=1) as house:
            await asyncio.sleep(1)
            old = house.node.containers[0].id
            house.node.leave(old)
            visits = await asyncio.gather(*house.visits(3, 0.1))
            await asyncio.sleep(1)

            assert old not in visits
            assert [State.READY] == [container.state for container in house.node.containers]

    virtually(story())


def test_a_container_whose_ready_event_was_lost_gets_its_visitor():
    async def story():
        async with House() as house:
            visit = house.visits(1, 0.1)
            await asyncio.sleep(0.2)
            house.node.deaf = True
            await asyncio.sleep(0.4)
            house.node.deaf = False
            began = elapsed()
            await asyncio.gather(*visit)

            assert elapsed() - began < 1.2

    virtually(story())


def test_a_node_that_breaks_at_a_start_fails_the_start_and_is_asked_again():
    class Broken(FakeNode):
        async def start(self, order, environ) -> None:
            if not self.started:
                self.started.append(order)
                raise RuntimeError("no fork")
            await super().start(order, environ)

    async def story():
        async with House(Broken(), max_containers=1) as house:
            house.pool.ephemeral = True  # so that the visitor hears the reason
            with pytest.raises(Failure, match="the node cannot start a container: no fork"):
                await house.ingress.visit(KEY)
            failures = house.pool.failures, house.pool.failed_starts
            await house.ingress.visit(KEY)

            assert (1, 1) == failures
            assert (0, 1) == (house.pool.failures, len(house.node.containers))
            assert any("cannot start: no fork" in line.text for line in house.said)

    virtually(story())


def test_a_container_that_no_pool_wants_is_stopped_once():
    async def story():
        async with House() as house:
            stranger = order("ta-stranger", app="x")
            stopped = []

            async def stop(name, **_) -> None:
                stopped.append(name)

            house.node.stop = stop
            await house.node.start(stranger, {})
            await asyncio.sleep(11)

            assert ["ta-stranger"] == stopped

    virtually(story())


def test_a_pool_whose_passes_fail_does_not_stop_the_others(caplog):
    async def story():
        async with House(scaledown_window_s=1.0) as house:
            other = PoolKey("app", "other", "rv-1")
            house.add(other)
            await asyncio.gather(*house.visits(1, 0.1))
            failed = faulty(house, "drain")
            await asyncio.sleep(3)
            began = elapsed()
            await house.ingress.visit(other, 0.1)

            assert elapsed() - began < 1.0
            assert 0 < len(failed) < 10
            house.ingress.fault = no_fault
            await asyncio.sleep(20)
            assert {"other"} == {c.order.function.name for c in house.node.containers}

    virtually(story())
    assert any("a pass over app/f/rv-1 failed" in r.getMessage() for r in caplog.records)


def test_an_ingress_that_says_nothing_of_its_load_holds_up_nobody():
    async def story():
        async with House(scaledown_window_s=1.0) as house:
            other = PoolKey("app", "other", "rv-1")
            house.add(other, scaledown_window_s=1.0)
            await asyncio.gather(*house.visits(1, 0.1))
            failed = faulty(house, "load", times=30)
            await asyncio.sleep(1)
            began = elapsed()
            await house.ingress.visit(other, 0.1)
            took_s = elapsed() - began
            await asyncio.sleep(20)

            assert took_s < 0.7
            assert 30 == len(failed)
            assert [] == house.node.containers

    virtually(story())


def test_a_node_that_refuses_a_start_tells_the_visitor_and_is_asked_again():
    async def story():
        async with House() as house:
            start = house.node.start

            async def refuse(*_args):
                raise OSError("no more processes")

            house.node.start = refuse
            with pytest.raises(Failure, match="no more processes"):
                await house.ingress.visit(KEY)
            house.node.start = start
            await asyncio.sleep(1)
            await house.ingress.visit(KEY)

            assert {"cannot start: no more processes"} == {line.text for line in house.said}

    virtually(story())


def test_a_pool_in_back_off_takes_nobodys_room():
    async def story():
        node = FakeNode(
            fails=lambda order: order.function.name == "bad",
            capacity=Capacity(cores=4, memory_mib=4000),
        )
        async with House(node, memory_mib=(2200, None), scaledown_window_s=60.0) as house:
            bad = house.add(
                PoolKey("app", "bad", "rv-1"), memory_mib=(2200, None), min_containers=1
            )
            await asyncio.sleep(20)  # its back-off has grown
            answered = []
            for _ in range(60):
                answered.append(await house.ingress.visit(KEY, 0.1))
                await asyncio.sleep(1)

            assert bad.failures > 3
            assert 1 == len(set(answered))

    virtually(story())


def test_a_pool_in_back_off_takes_nobodys_room_although_it_has_visitors():
    async def story():
        node = FakeNode(
            fails=lambda order: order.function.name == "bad",
            capacity=Capacity(cores=4, memory_mib=4000),
        )
        async with House(node, memory_mib=(2200, None), scaledown_window_s=60.0) as house:
            bad = house.add(PoolKey("app", "bad", "rv-1"), memory_mib=(2200, None))

            async def visitor():
                while True:
                    with contextlib.suppress(Failure):
                        await house.ingress.visit(bad.key)
                    await asyncio.sleep(0.2)

            visits = asyncio.create_task(visitor())
            await asyncio.sleep(60)  # its back-off has grown
            answered = []
            for _ in range(60):
                answered.append(await house.ingress.visit(KEY, 0.1))
                await asyncio.sleep(1)
            visits.cancel()

            assert bad.failures > 3
            assert len(set(answered)) <= 4  # one for each of its tries

    virtually(story())


def test_a_container_whose_node_is_lost_before_it_is_attached_is_no_failed_start():
    async def story():
        async with House(max_containers=1) as house:
            house.pool.ephemeral = True  # so that a visitor would hear of a failed start
            error = NodeLost("the node `b` is lost")
            failed = faulty(house, "attach", times=1, error=error)
            await house.ingress.visit(KEY)

            assert ["attach"] == failed
            assert (0, 0) == (house.pool.failures, house.pool.failed_starts)
            assert "a start is tried again: the node `b` is lost" in [
                line.text for line in house.said
            ]
            assert 1 == len(house.node.containers)

    virtually(story())
