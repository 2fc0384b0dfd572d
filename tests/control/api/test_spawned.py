"""What a container may say of attempts of spawned calls, and of whom."""

from collections.abc import AsyncIterator

import pytest

from homeport.contract import frames
from homeport.contract.container import HERE
from homeport.contract.scope import MAIN
from homeport.control.api.access import Caller
from homeport.control.api.spawned import Spawns

NODES = {"ta-here": HERE, "ta-a": "a", "ta-b": "b"}
CALL = "fc-" + "0" * 32


class Claims:
    """Gives each attempt to the container that asks."""

    def __init__(self) -> None:
        self.given: list[str] = []

    async def claim(self, _scope, _call, _place, _attempt, container) -> bool:
        self.given.append(container)
        return True


async def claimed(node: str, *containers: str) -> tuple[tuple[int, ...], list[str]]:
    """Have containers of a node claim an attempt each; return the statuses, and who has got one."""
    claims = Claims()
    parts = [
        part
        for container in containers
        for part in (f"call={CALL}&place=0&attempt=0&container={container}".encode(), b"")
    ]

    async def body() -> AsyncIterator[bytes]:
        yield frames.pack(parts)

    spawns = Spawns(claims, lambda *_: None, NODES.get)
    reported = await spawns.report(MAIN, Caller(by="container", node=node), body())
    return reported.statuses, claims.given


@pytest.mark.parametrize("node", [HERE, "a"])
async def test_a_container_claims_attempts_for_itself_and_not_for_a_container_of_another_node(node):
    statuses, given = await claimed(node, "ta-here", "ta-a", "ta-b")

    assert [name for name, its in NODES.items() if its == node] == given
    assert [200 if its == node else 403 for its in NODES.values()] == list(statuses)


async def test_a_container_that_its_node_has_not_reported_yet_asks_again():
    """A runner repeats a report whose status is 500 or more."""
    assert ((503,), []) == await claimed("a", "ta-new")
    assert ((200,), ["ta-new"]) == await claimed(HERE, "ta-new")
