"""A request reaches the API only if a guard has named its caller."""

import httpx
from starlette.responses import PlainTextResponse

from homeport.control.api.access import Caller, OwnSocket
from homeport.control.api.router import Router
from homeport.control.api.routing import route


class Who:
    """A noun that answers with the name of its caller."""

    @route("GET", "/")
    async def who(self, caller: Caller) -> PlainTextResponse:
        """Say it."""
        return PlainTextResponse(caller.by)


def app():
    return Router([Who()], None, None)


async def asked(guarded, headers=()):
    """Send one request; return the status and the text of the answer."""
    transport = httpx.ASGITransport(guarded)
    async with httpx.AsyncClient(transport=transport, base_url="http://homeport") as http:
        answer = await http.get("/", headers=list(headers))
        return answer.status_code, answer.text


async def test_an_app_without_a_guard_lets_nobody_in():
    status, text = await asked(app())

    assert 401 == status
    assert '"kind":"Unauthorized"' in text


async def test_a_caller_by_the_port_of_visitors_may_only_read():
    """HAProxy sends requests for `/metrics` to the server's own socket."""
    ways = await asked(OwnSocket(app()), [("X-Homeport-By-Port", "1")])
    assert (200, "port") == ways


async def test_the_servers_own_socket_lets_everybody_in():
    assert (200, "socket") == await asked(OwnSocket(app()))
    assert (200, "socket") == await asked(OwnSocket(app()), [("Authorization", "Bearer no")])
