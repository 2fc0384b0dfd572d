"""The routes of other machines, for the test of what each route answers."""

import asyncio
import hashlib
from collections.abc import Callable

from homeport.contract.api.nodes import Drain, Labels, NewNodeToken
from homeport.contract.errors import NodeLost
from tests.control.api.asking import Caller
from tests.control.api.served import Server


class Remote:
    """An agent with two lines in its log, which says nothing else."""

    name = "a"

    def __init__(self) -> None:
        self.connected = asyncio.Event()
        self.connected.set()

    async def read_log(self, tail: int, *, follow: bool, say: Callable[[str], None]) -> None:
        assert (2, False) == (tail, follow)
        say("one\ntwo\n")

    async def about(self):
        raise NodeLost("it says nothing")


async def ask_all(caller: Caller, server: Server) -> None:
    """Ask each of them."""
    ask = caller.ask
    made = await ask("POST /v1/nodes/tokens", body=NewNodeToken(listen="127.0.0.1:0"))
    assert ("127.0.0.1", True) == (made.host, made.port > 0)
    wrong = b'{"listen": "127.0.0.1"}'
    assert 400 == await caller.status("POST /v1/nodes/tokens", content=wrong)
    digest = hashlib.sha256(made.token.rpartition("-")[2].encode()).hexdigest()
    await server.machines.rows.join(digest, "a", "1" * 32)
    (node,) = (await ask("GET /v1/nodes")).nodes
    assert ("a", "gone", False, None) == (node.name, node.health, node.drained, node.cores)
    labelled = await ask(
        "POST /v1/nodes/{name}/labels", name="a", body=Labels(labels={"region": "eu"})
    )
    assert {"region": "eu"} == labelled.labels
    wrong = b'{"labels": {"A": "b"}}'
    assert 400 == await caller.status("POST /v1/nodes/{name}/labels", name="a", content=wrong)
    server.machines._remotes["a"] = Remote()
    lines = await ask("GET /v1/nodes/{name}/logs", name="a", query="?tail=2")
    assert ["one", "two"] == [line.text for line in lines]
    del server.machines._remotes["a"]
    assert 404 == await caller.status("GET /v1/nodes/{name}/logs", name="b")
    await ask("POST /v1/nodes/{name}/drain", name="a", body=Drain())
    assert [True] == [each.drained for each in (await ask("GET /v1/nodes")).nodes]
    await ask("DELETE /v1/nodes/{name}", name="a")
    assert 404 == await caller.status("DELETE /v1/nodes/{name}", name="a")
