"""The control loop with both roles in memory, on a virtual clock: stories, and a property."""

import asyncio
import contextlib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.contract.capacity import Accelerator, Capacity
from homeport.contract.errors import Failure
from homeport.contract.traffic import PoolKey
from homeport.control.deploys import trial
from tests.control.fleet.house import KEY, House, elapsed
from tests.fakes import FakeNode
from tests.waiting import virtually


def test_to_zero_and_back():
    async def story():
        async with House(scaledown_window_s=10.0) as house:
            began = elapsed()
            await asyncio.gather(*house.visits(1))
            assert 1.6 > elapsed() - began  # a start of 0.5 s, a request of 1 s, and no more
            await asyncio.sleep(9)
            assert 1 == len(house.node.containers)
            await asyncio.sleep(2.5)
            assert [] == house.node.containers
            await asyncio.gather(*house.visits(1))
            assert 2 == len(house.node.started)

    virtually(story())


def test_a_burst_onto_one_busy_container_starts_all_the_others_at_once():
    async def story():
        async with House(max_inputs=1) as house:
            first = house.visits(1, 30.0)
            await asyncio.sleep(1)
            began = elapsed()
            burst = house.visits(9)
            while len(house.node.started) < 10:
                await asyncio.sleep(0.001)
            decided_s = elapsed() - began
            await asyncio.gather(*burst)
            answered_s = elapsed() - began
            await asyncio.gather(*first)

        assert decided_s < 0.1
        assert answered_s < 2.0  # one wave: all started together, and each had one request

    virtually(story())


def test_a_request_queued_when_the_last_container_died_is_served_by_the_next_however_late():
    async def story():
        fails = []
        node = FakeNode(fails=lambda _spec: bool(fails))
        async with House(node, max_containers=1, scaledown_window_s=2.0) as house:
            inside, *queued = house.visits(3, 5.0)
            await asyncio.sleep(1)
            fails.append("for longer than the window")
            house.node.kill(house.node.started[0].id)
            await asyncio.sleep(10)
            fails.clear()
            with contextlib.suppress(Failure):
                await asyncio.gather(*queued)
            inside.cancel()
            await asyncio.gather(*house.visits(1))

        assert all(visit.done() for visit in queued)

    virtually(story())


CARDS = tuple(
    Accelerator(id=f"GPU-{number}", name="NVIDIA L4", memory_mib=23034) for number in range(2)
)


def test_a_device_is_one_containers_and_who_finds_none_waits_for_it():
    async def story():
        node = FakeNode(capacity=Capacity(cores=4, memory_mib=8000, accelerators=CARDS))
        async with House(node, gpu=("L4",)) as house:
            visits = house.visits(4)
            await asyncio.sleep(0.2)
            devices = [order.devices for order in node.started]
            await asyncio.gather(*visits)

        assert {("GPU-0",), ("GPU-1",)} == set(devices)
        assert 2 == len(node.started)
        assert ["waits for a GPU (L4): all are in use"] == [line.text for line in house.said]

    virtually(story())


def test_an_idle_container_goes_when_another_pool_needs_what_it_has():
    async def story():
        node = FakeNode(capacity=Capacity(cores=4, memory_mib=8000, accelerators=CARDS[:1]))
        other = PoolKey("app", "other", "rv-1")
        async with House(node, gpu=("L4",), scaledown_window_s=600.0) as house:
            house.add(other, gpu=("any",))
            await asyncio.gather(*house.visits(1))
            began = elapsed()
            await house.ingress.visit(other, 1.0)
            took_s = elapsed() - began
            await asyncio.sleep(5)
            running = [container.order.function.name for container in node.containers]

        assert took_s < 2.0  # an end, a start of 0.5 s, a request of 1 s
        assert [
            "other"
        ] == running  # and the first does not start again, as no request waits for it

    virtually(story())


def test_an_app_of_more_functions_than_containers_is_proved_all_the_same():
    async def story():
        async with House(max_containers_here=3) as house:
            pools = [house.add(PoolKey("many", f"f{n}", "rv-1")) for n in range(10)]
            await trial.prove(pools, house.reconciler.wake, lambda _text: None)
            most = len(house.node.containers)

        assert {"f", *(f"f{n}" for n in range(10))} >= {s.function.name for s in house.node.started}
        assert 10 == len({order.function.name for order in house.node.started})
        assert most <= 3

    virtually(story())


def test_memory_that_was_asked_for_is_kept_free():
    async def story():
        node = FakeNode(capacity=Capacity(cores=4, memory_mib=4000))
        async with House(node, memory_mib=(1500, None)) as house:
            await asyncio.gather(*house.visits(5))

        assert 2 == len(node.started)

    virtually(story())


def test_at_the_maximum_requests_wait_in_order():
    async def story():
        async with House(max_containers=2) as house:
            order = []

            async def visit(number):
                await house.ingress.visit(KEY, 1.0)
                order.append(number)

            visits = []
            for number in range(8):
                visits.append(asyncio.create_task(visit(number)))
                await asyncio.sleep(0.001)
            await asyncio.gather(*visits)

        assert list(range(8)) == order
        assert 2 == len(house.node.started)

    virtually(story())


def test_buffer_containers_are_there_while_the_function_is_active():
    async def story():
        async with House(buffer_containers=2, scaledown_window_s=5.0) as house:
            visits = house.visits(1, 3.0)
            await asyncio.sleep(2)
            assert 3 == len(house.node.containers)
            await asyncio.gather(*visits)
            await asyncio.sleep(10)
            assert [] == house.node.containers

    virtually(story())


def test_failed_starts_back_off_are_counted_and_tell_everyone_who_waits():
    async def story():
        house = House(FakeNode(fails=lambda order: order.function.name == "f"), max_inputs=1)
        good = house.add(PoolKey("app", "good", "rv-1"))
        async with house:
            answers = await asyncio.gather(*house.visits(3), return_exceptions=True)
            for _ in range(200):  # a visitor who asks again and again for a minute
                with pytest.raises(Failure):
                    await house.ingress.visit(KEY, 0.1)
                await asyncio.sleep(0.3)
            broken = len([s for s in house.node.started if s.function.name == "f"])
            began = elapsed()
            await house.ingress.visit(good.key, 0.1)

            assert ["no fuel"] * 3 == [str(answer) for answer in answers]
            assert 4 <= broken <= 15
            assert broken == house.pool.failed_starts
            assert 0.7 > elapsed() - began

    virtually(story())


def test_a_container_that_dies_is_replaced():
    async def story():
        async with House(min_containers=2) as house:
            await asyncio.sleep(1)
            killed = house.node.containers[0].id
            house.node.kill(killed)
            await asyncio.sleep(1)

            assert 2 == len(house.node.containers)
            assert killed not in {container.id for container in house.node.containers}
            assert ["container gone: was killed by SIGKILL"] == [line.text for line in house.said]

    virtually(story())


def test_each_start_is_told_of_with_its_parts_also_a_failed_one():
    async def story():
        house = House(FakeNode(0.5, fails=lambda order: order.function.name == "bad"), max_inputs=1)
        bad = house.add(PoolKey("app", "bad", "rv-1"))
        async with house:
            await asyncio.gather(*house.visits(2, 0.1))
            with pytest.raises(Failure):
                await house.ingress.visit(bad.key)
        return house.starts

    *good, failed = virtually(story())

    assert [""] * 2 == [start.failed for start in good]
    parts = {"parked": 0.0, "scheduled": 0.0, "forked": 0.0, "imported": 500.0, "entered": 5.0}
    assert [{**parts, "attached": 0.0}] * 2 == [start.timings_ms for start in good]
    assert ("bad", "no fuel") == (failed.function, failed.failed)
    assert {*parts} - {"entered"} == set(failed.timings_ms)


def test_a_start_that_nobody_wanted_any_more_is_no_cold_start():
    async def story():
        async with House(min_containers=1) as house:
            await asyncio.sleep(0.2)
            house.pool.retired = True
            await asyncio.sleep(2)
            return house.starts

    assert [] == virtually(story())


ARRIVALS = st.lists(st.tuples(st.floats(0.0, 20.0), st.floats(0.0, 3.0)), min_size=1, max_size=40)


@given(
    arrivals=ARRIVALS,
    max_inputs=st.integers(1, 4),
    least=st.integers(0, 2),
    most=st.none() | st.integers(2, 5),
    window_s=st.floats(2.0, 6.0),
    start_s=st.floats(0.0, 2.0),
)
def test_every_request_is_answered_once_within_bounds_and_nothing_stays(
    arrivals, max_inputs, least, most, window_s, start_s
):
    async def story():
        house = House(
            FakeNode(start_s),
            max_inputs=max_inputs,
            min_containers=least,
            max_containers=most,
            scaledown_window_s=window_s,
        )
        answered = Counter()

        async def visit(number, at_s, duration_s):
            await asyncio.sleep(at_s)
            await house.ingress.visit(KEY, duration_s)
            answered[number] += 1

        async with house:
            async with asyncio.timeout(600):
                await asyncio.gather(
                    *(visit(number, *arrival) for number, arrival in enumerate(arrivals))
                )
            await asyncio.sleep(window_s + start_s + 2.0)
            left = len(house.node.containers)

        assert dict.fromkeys(range(len(arrivals)), 1) == dict(answered)
        assert max(house.ingress.most.values()) <= max_inputs
        assert most is None or house.node.most <= most
        assert least == left

    virtually(story())


def test_work_after_a_response_is_demand_and_the_next_visitor_gets_another_container():
    async def story():
        async with House(scaledown_window_s=5.0) as house:
            await asyncio.gather(*house.visits(1, 0.1))
            (first,) = [order.id for order in house.node.started]
            house.node.hold(first, 1)
            await asyncio.sleep(0.2)
            began = elapsed()
            (second,) = await asyncio.gather(*house.visits(1, 0.1))
            took_s = elapsed() - began
            await asyncio.sleep(20)  # longer than the window: the work keeps its container
            kept = {container.id for container in house.node.containers}
            house.node.hold(first, 0)
            await asyncio.sleep(20)

            assert [(first, 1), (first, 0)] == house.node.confirmed
            assert first != second
            assert took_s < 1.0
            assert {first} <= kept
            assert [] == house.node.containers

    virtually(story())


def test_a_request_that_waits_for_a_held_slot_gets_it_when_the_work_ends():
    async def story():
        async with House(max_containers=1) as house:
            await asyncio.gather(*house.visits(1, 0.1))
            (only,) = [order.id for order in house.node.started]
            house.node.hold(only, 1)
            await asyncio.sleep(0.2)
            (waiting,) = house.visits(1, 0.1)
            await asyncio.sleep(3)
            waited = not waiting.done()
            house.node.hold(only, 0)
            began = elapsed()

            assert waited
            assert only == await waiting
            assert elapsed() - began < 0.5

    virtually(story())


def test_a_slot_that_was_held_under_an_earlier_server_is_held_from_the_beginning():
    async def story():
        node = FakeNode()
        async with House(node) as before:
            await asyncio.gather(*before.visits(1, 0.1))
        (only,) = [order.id for order in node.started]
        node.hold(only, 1)
        house = House(node)
        await house.nodes.open()
        await house.reconciler.adopt()
        await house.nodes.close()

        assert {only: 1} == house.ingress.held

    virtually(story())


def test_a_request_that_a_container_ended_unread_ends_in_the_ingress_too():
    async def story():
        async with House(timeout_s=5.0) as house:
            await asyncio.gather(*house.visits(1, 0.1))
            (only,) = [order.id for order in house.node.started]
            house.node.cut(only)
            await asyncio.sleep(0.1)

            assert ("cut", only) in house.ingress.calls

    virtually(story())
