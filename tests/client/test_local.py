"""Requests to this machine's server, over its Unix socket."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from homeport.client.local import Local
from homeport.client.replies import NoReply, NotConnected, Silence

HEADERS = {"modal-environment": "main"}


@pytest.fixture
def served(tmp_path):
    """Serve one connection after the other by a function of its two streams; gives the client."""

    @asynccontextmanager
    async def serve(answer):
        async def connected(reader, writer):
            await answer(reader, writer)
            writer.close()

        async with await asyncio.start_unix_server(connected, tmp_path / "s"):
            yield Local(str(tmp_path / "s"), HEADERS)

    return serve


async def exchanged(local, content=None, answer_s=None):
    async with local.exchange("POST", "/v1/x", content, answer_s=answer_s) as reply:
        return reply.status, await reply.read()


async def test_a_request_has_the_headers_and_the_body(served):
    got = []

    async def answer(reader, writer):
        got.append(await reader.readuntil(b"\r\n\r\n"))
        got.append(await reader.readexactly(4))
        writer.write(b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\n\r\nok")

    async with served(answer) as local:
        assert (201, b"ok") == await exchanged(local, b"body")

    head = got[0].lower().split(b"\r\n")
    assert b"post /v1/x http/1.1" == head[0]
    assert {b"host: homeport", b"modal-environment: main", b"content-length: 4"} < set(head)
    assert b"body" == got[1]


async def test_a_body_in_pieces_is_sent_as_it_comes(served):
    got = asyncio.Queue()

    async def pieces():
        yield b"first"
        assert b"first" in await got.get()  # it has arrived before the second is made
        yield b"second"

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        got.put_nowait(await reader.readuntil(b"first\r\n"))
        await reader.readuntil(b"6\r\nsecond\r\n0\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    async with served(answer) as local:
        assert (204, b"") == await exchanged(local, pieces())


async def test_a_reply_arrives_in_pieces(served):
    seen = asyncio.Event()

    async def answer(_reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n")
        await seen.wait()
        writer.write(b"3\r\ntwo\r\n0\r\n\r\n")

    async with served(answer) as local, local.exchange("GET", "/", None, answer_s=None) as reply:
        got = []
        async for piece in reply.pieces():
            got.append(piece)
            seen.set()

    assert [b"one", b"two"] == got


async def test_a_refusal_that_comes_before_the_whole_body_is_read(served):
    async def pieces():
        for _ in range(200):
            yield b"x" * 100_000

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig")

    async with served(answer) as local:
        assert (413, b"big") == await exchanged(local, pieces())


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", id="half a body"),
        pytest.param(b"SSH-2.0-OpenSSH\r\n", id="another protocol"),
    ],
)
async def test_a_reply_that_is_cut_off(served, sent):
    async def answer(_reader, writer):
        writer.write(sent)

    async with served(answer) as local:
        with pytest.raises(NoReply):
            await exchanged(local)


async def test_a_server_that_sends_nothing(served):
    over = asyncio.Event()

    async def answer(_reader, _writer):
        await over.wait()

    async with served(answer) as local:
        with pytest.raises(Silence):
            await exchanged(local, answer_s=0.05)
        over.set()


async def test_an_error_of_the_body_is_the_callers(served):
    async def pieces():
        yield b"first"
        raise PermissionError("the file cannot be read any more")

    async def answer(reader, _writer):
        await reader.read()

    async with served(answer) as local:
        with pytest.raises(PermissionError):
            await exchanged(local, pieces())


async def test_nobody_listens(tmp_path):
    with pytest.raises(NotConnected):
        await exchanged(Local(str(tmp_path / "s"), HEADERS))
