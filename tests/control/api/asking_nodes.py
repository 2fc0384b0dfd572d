"""The routes of other machines, for the test of what each route answers."""

import hashlib

from homeport.contract.api.nodes import Drain, NewNodeToken
from tests.control.api.asking import Caller
from tests.control.api.served import Server


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
    await ask("POST /v1/nodes/{name}/drain", name="a", body=Drain())
    assert [True] == [each.drained for each in (await ask("GET /v1/nodes")).nodes]
    await ask("DELETE /v1/nodes/{name}", name="a")
    assert 404 == await caller.status("DELETE /v1/nodes/{name}", name="a")
