"""Asks whether a node's agent answers, and if not, whether its machine does."""

import asyncio

from homeport.contract.errors import NodeLost
from homeport.contract.listing import Mark
from homeport.contract.roles import Node

FIRST_S = 1.0  # after so long without an answer the agent is asked once more, and its machine too
AGAIN_S = 1.0


async def look(node: Node, *, at_machine: bool) -> tuple[Mark | None, bool]:
    """Return the agent's mark, None if it does not answer; and whether the machine does, as far as it is looked `at_machine`.

    It takes `FIRST_S` and `AGAIN_S` at most.
    """
    try:
        async with asyncio.timeout(FIRST_S):
            return await node.mark(), True
    except NodeLost:
        return None, not at_machine or await node.lives()
    except TimeoutError:
        pass
    if not at_machine:
        return await _again(node), True
    mark, lives = await asyncio.gather(_again(node), node.lives())
    return mark, lives


async def _again(node: Node) -> Mark | None:
    try:
        async with asyncio.timeout(AGAIN_S):
            return await node.mark()
    except (NodeLost, TimeoutError):
        return None
