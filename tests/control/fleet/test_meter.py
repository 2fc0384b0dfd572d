"""Which requests count as demand, and since when."""

import asyncio

from homeport.control.fleet.agenda import WHOLE_S
from tests.control.fleet.house import House, faulty
from tests.fakes import no_fault
from tests.waiting import virtually


def test_a_container_that_the_user_ends_right_after_a_request_has_no_successor():
    async def story():
        async with House(scaledown_window_s=60.0) as house:
            await asyncio.gather(*house.visits(1, 0.01))
            (only,) = house.node.started
            await asyncio.sleep(1)
            await asyncio.gather(*house.visits(1, 0.001))  # between two passes
            house.reconciler.end(only.id)
            await asyncio.sleep(5)

            assert [] == house.node.containers
            assert [only] == house.node.started

    virtually(story())


def test_a_request_to_another_container_counts_at_once():
    async def story():
        async with House(scaledown_window_s=60.0) as house:
            await asyncio.gather(*house.visits(1, 0.01))
            (first,) = house.node.started
            house.reconciler.end(first.id)
            await asyncio.gather(*house.visits(1, 0.001))
            await asyncio.sleep(5)

            assert [c.id for c in house.node.started[1:]] == [c.id for c in house.node.containers]
            assert 2 == len(house.node.started)

    virtually(story())


def test_an_ingress_that_does_not_answer_is_logged_once_each_time(caplog):
    async def story():
        async with House(min_containers=1) as house:
            for _ in range(2):
                failed = faulty(house, "load")
                await asyncio.sleep(WHOLE_S + 2)
                assert len(failed) > 2
                house.ingress.fault = no_fault
                await asyncio.sleep(2)

            assert 1 == len(house.node.containers)

    virtually(story())
    assert 2 == caplog.text.count("the ingress does not report its load")
