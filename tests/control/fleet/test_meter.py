"""Which requests count as demand, and since when."""

import asyncio

from tests.control.fleet.test_reconciler import House, virtually


def test_a_container_that_the_user_ends_right_after_a_request_has_no_successor():
    async def story():
        async with House(scaledown_window_s=60.0) as house:
            await asyncio.gather(*house.visits(1, 0.01))
            (only,) = house.node.started
            await asyncio.sleep(1)
            await asyncio.gather(
                *house.visits(1, 0.001)
            )  # shorter than the time between two passes
            house.reconciler.end(only.id)
            await asyncio.sleep(5)

            assert [] == house.node.containers
            assert [only] == house.node.started

    virtually(story())
