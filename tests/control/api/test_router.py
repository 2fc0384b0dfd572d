"""A request finds its route by its path and method, and whatever a handler raises is answered once."""

import asyncio

import pytest
from starlette.responses import PlainTextResponse, Response

from homeport.contract.api.shared import Count
from homeport.contract.errors import AlreadyExists
from homeport.control.api import access
from homeport.control.api.access import Guard
from homeport.control.api.router import Router
from homeport.control.api.routing import route


class Late(Response):
    """An answer that fails after it has begun."""

    async def __call__(self, scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise AlreadyExists("too late")


class Things:
    """A noun."""

    @route("GET", "/v1/things")
    async def every(self) -> Count:
        """All."""
        return Count(count=7)

    @route("GET", "/v1/things/late")
    async def late(self) -> Response:
        """Fail after the answer has begun."""
        return Late()

    @route("GET", "/v1/things/{name}")
    async def one(self, name: str) -> PlainTextResponse:
        """One."""
        return PlainTextResponse(f"one:{name}")

    @route("DELETE", "/v1/things/{name}")
    async def delete(self, name: str) -> None:
        """Refuse."""
        raise AlreadyExists(f"no: {name}")

    @route("GET", "/v1/things/{name}/parts/{part}")
    async def part(self, name: str, part: str) -> PlainTextResponse:
        """A part."""
        return PlainTextResponse(f"{name}/{part}")

    @route("GET", "/plain")
    async def fail(self) -> None:
        """Have a bug."""
        raise ZeroDivisionError("a bug")


def asked(method: str, path: str, *, kind: str = "http") -> tuple[list[dict], Exception | None]:
    """Return what was sent, and what was raised."""
    sent: list[dict] = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {
        "type": kind,
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [],
        "server": None,
        "scheme": "http",
    }
    app = Guard(Router([Things()], None, None), lambda _scope: access.Caller(by="socket"))
    try:
        asyncio.run(app(scope, receive, send))
    except Exception as error:
        return sent, error
    return sent, None


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/v1/things", 200, b'{"count":7}'),
        ("HEAD", "/v1/things", 200, b'{"count":7}'),  # the server leaves the body out
        ("GET", "/v1/things/a b", 200, b"one:a b"),
        ("GET", "/v1/things/a/parts/b", 200, b"a/b"),
        ("DELETE", "/v1/things/late", 409, b"no: late"),  # the path of another method's route, too
        ("POST", "/v1/things", 405, b"POST /v1/things: Method Not Allowed"),
        ("GET", "/v1/things/", 404, b"GET /v1/things/: Not Found"),
        ("GET", "/v1/things//parts/b", 404, b"Not Found"),
        ("GET", "/v1/things/a/b", 404, b"Not Found"),
        ("GET", "/v1/things/a/PARTS/b", 404, b"Not Found"),
        ("GET", "/v1/others", 404, b"Not Found"),
        ("GET", "/v2/things", 404, b"Not Found"),
        ("GET", "/v1/things\n", 404, b"Not Found"),
        ("GET", "things", 404, b"Not Found"),
        ("GET", "", 404, b"Not Found"),
    ],
)
def test_a_path_and_a_method_find_their_route(method, path, status, text):
    (start, body), error = asked(method, path)

    assert error is None
    assert start["status"] == status
    assert text in body["body"]


def test_a_bug_is_answered_and_raised_for_the_servers_log():
    (start, body), error = asked("GET", "/plain")

    assert isinstance(error, ZeroDivisionError)
    assert start["status"] == 500
    assert b"Bug" in body["body"]


def test_a_failure_after_the_beginning_cuts_the_answer():
    sent, error = asked("GET", "/v1/things/late")

    assert [200] == [each["status"] for each in sent]
    assert isinstance(error, RuntimeError)


def test_an_unknown_websocket_is_closed():
    sent, error = asked("GET", "/v1/things", kind="websocket")

    assert (["websocket.close"], None) == ([each["type"] for each in sent], error)


def test_a_router_without_a_guard_answers_nobody():
    async def story():
        sent: list[dict] = []

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "GET", "path": "/v1/things", "query_string": b""}
        await Router([Things()], None, None)({**scope, "headers": []}, None, send)
        return sent[0]["status"]

    assert asyncio.run(story()) == 401
