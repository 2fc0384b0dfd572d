"""What is released while no app serves."""

import asyncio

from homeport.control.fleet.resting import Resting
from tests.control.fleet.house import House
from tests.fakes import FakeNode
from tests.waiting import virtually


def test_nodes_rest_once_no_app_has_served_for_a_while_and_not_while_one_is_at_zero():
    async def story():
        node = FakeNode()
        async with House(node) as house:
            resting = Resting(house.pools, house.nodes, after_s=60.0)
            resting.open()
            await asyncio.sleep(150)
            assert [] == node.rested  # the app is at zero, and its next request shall be fast

            house.pool.retire(0.0)
            house.reconciler.wake()
            await asyncio.sleep(100)
            rested = len(node.rested)
            assert [60.0] == sorted(set(node.rested))

            house.add(house.pool.key)
            await asyncio.sleep(150)

            assert rested == len(node.rested)
            await resting.close()

    virtually(story())


def test_a_node_that_does_not_answer_is_left_alone():
    async def story():
        node = FakeNode()
        async with House(node) as house:
            house.pools.remove(house.pool)
            resting = Resting(house.pools, house.nodes, after_s=60.0)
            resting.open()
            node.is_cut = True
            await asyncio.sleep(200)
            node.is_cut = False
            await asyncio.sleep(130)

            assert node.rested
            await resting.close()

    virtually(story())
