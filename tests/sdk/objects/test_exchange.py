"""Requests to the server: which are tried again, blocking and on a loop alike, and how long a wait goes on."""

import asyncio

import pytest

from homeport.sdk import context, exception
from homeport.sdk.objects import exchange
from homeport.sdk.objects.exchange import Ask, Wait
from homeport.wire import blocking, looped
from tests.test_wire import Server

AWAY = b"HTTP/1.1 503 x\r\ncontent-type: text/plain\r\ncontent-length: 4\r\n\r\naway"
OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 4\r\n\r\ndone"
REFUSED = (
    b"HTTP/1.1 503 x\r\ncontent-type: application/json\r\ncontent-length: 61\r\n\r\n"
    b'{"error": {"kind": "StorageError", "message": "it is full" }}'
)
ENDED = b"HTTP/1.1 502 x\r\ncontent-type: text/plain\r\ncontent-length: 4\r\n\r\ngone"
CUT = None


def ask(asked: Ask) -> bytes:
    """Ask as a thread of a container, which ends after that."""
    try:
        return exchange._ask(asked)
    finally:
        if blocking._own.connection is not None:
            blocking._own.connection.close()
            blocking._own.connection = None


@pytest.fixture(params=["blocking", "on a loop"])
async def asking(request, tmp_path, monkeypatch):
    """Return a function that asks a server with these answers; it returns the answer and the server."""
    monkeypatch.setattr(exchange, "PAUSE_S", 0.01)
    servers = []

    async def asking(*answers, **options):
        servers.append(server := Server(tmp_path / "s", answers))
        monkeypatch.setattr(context, "_reach", context.Reach(socket=server.path, key="k"))
        asked = Ask("dicts", "d", "clear", **options)
        if request.param == "blocking":
            return await asyncio.to_thread(ask, asked), server
        return await exchange._ask_async(asked), server

    asking.servers = servers
    yield asking
    for connections in looped._idle.pop(asyncio.get_running_loop(), {}).values():
        for connection in connections:
            connection.close()
    for server in servers:
        await asyncio.to_thread(server.close)


async def test_a_request_waits_for_a_server_that_is_away(asking):
    answer, server = await asking(AWAY, AWAY, OK)

    assert b"done" == answer
    assert 3 == len(server.requests)


async def test_a_repeatable_request_is_sent_again_if_the_server_ends_meanwhile(asking):
    answer, server = await asking(ENDED, OK)

    assert (b"done", 2) == (answer, len(server.requests))


async def test_an_unrepeatable_request_is_not_sent_again_then(asking):
    with pytest.raises(exception.ServiceError, match="it is not known"):
        await asking(ENDED, OK, repeats=False)


async def test_a_repeatable_request_is_sent_again_after_a_cut_connection(asking):
    answer, server = await asking(CUT, OK)

    assert b"done" == answer
    assert 2 == len(server.requests)


async def test_an_unrepeatable_request_is_sent_once(asking):
    with pytest.raises(exception.ServiceError, match="ended before its answer"):
        await asking(CUT, OK, repeats=False)

    (server,) = asking.servers
    assert 1 == len(server.requests)


async def test_an_answer_of_the_server_itself_is_no_reason_to_ask_again(asking):
    with pytest.raises(Exception, match="it is full"):
        await asking(REFUSED, OK)

    (server,) = asking.servers
    assert 1 == len(server.requests)


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        (AWAY, exception.ConnectionError, "the homeport server does not answer"),
        (CUT, exception.ServiceError, "it is not known whether it was done"),
        (ENDED, exception.ServiceError, "it is not known whether it was done"),
    ],
)
async def test_patience_has_an_end_and_the_error_says_why(asking, monkeypatch, answer, error, text):
    monkeypatch.setattr(exchange, "PATIENCE_S", 0.0)

    with pytest.raises(error, match=text):
        await asking(*[answer] * 50)


def test_a_wait_takes_several_requests_and_ends_in_time(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    wait, forever, none = Wait(30.0), Wait(None), Wait(0.0)

    assert (exchange.WAIT_S, exchange.WAIT_S, 0.0) == (wait.next_s, forever.next_s, none.next_s)
    assert (False, False, True) == (wait.is_over, forever.is_over, none.is_over)
    now[0] = 125.0
    assert (5.0, False) == (wait.next_s, wait.is_over)
    now[0] = 130.0
    assert (0.0, True) == (wait.next_s, wait.is_over)
    now[0] = 1e9
    assert (exchange.WAIT_S, False) == (forever.next_s, forever.is_over)
