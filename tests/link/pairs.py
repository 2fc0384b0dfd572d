"""Two ends of a connection over a real socket on loopback."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from homeport.link.pace import Pace
from homeport.link.session import Lost, Session, Shape

CALLS = {
    "add": Shape(given={"a": int, "b": int}, value=int),
    "note": Shape(given={"text": str}),
    "wait": Shape(given={"text": str}, value=str, long=True),
    "fail": Shape(given={}),
    "bytes": Shape(given={"size": int}, value=bytes, long=True, bulk=True),
}


class End:
    """A session, and what has come to it."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.heard: list[Any] = []
        self.running: asyncio.Task[None] | None = None

    async def lost(self) -> str:
        """Return why the connection was lost."""
        assert self.running is not None
        try:
            await self.running
        except Lost as lost:
            return str(lost)
        raise AssertionError("it ended without a reason")


class Served:
    """What the calls above do."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.cancelled: list[str] = []
        self.may_go = asyncio.Event()

    async def serve(self, name: str, given: Mapping[str, Any], say: Any) -> Any:
        if name == "add":
            return given["a"] + given["b"]
        if name == "note":
            self.notes.append(given["text"])
        if name == "fail":
            raise RuntimeError("a bug with a secret in its text")
        if name == "bytes":
            return b"x" * given["size"]
        if name == "wait":
            say(f"waiting: {given['text']}")
            try:
                await self.may_go.wait()
            except asyncio.CancelledError:
                self.cancelled.append(given["text"])
                raise
            return given["text"]
        return None


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@contextlib.asynccontextmanager
async def streams() -> AsyncIterator[tuple[Streams, Streams]]:
    """Yield both ends of a TCP connection."""
    accepted: asyncio.Future[Streams] = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(
        lambda reader, writer: accepted.set_result((reader, writer)), "127.0.0.1", 0
    )
    async with server:
        one = await asyncio.open_connection(*server.sockets[0].getsockname())
        other = await accepted
        try:
            yield one, other
        finally:
            for _reader, writer in (one, other):
                writer.transport.abort()


def end(streams: Streams, served: Served | None = None, *, pace: Pace | None = None) -> End:
    """Return one end; with `served` it answers calls."""
    made: End

    async def serve(name: str, given: dict[str, Any], say: Any) -> Any:
        assert served is not None
        return await served.serve(name, given, say)

    session = Session(
        *streams,
        asks=CALLS,
        serves=CALLS if served else {},
        serve=serve,
        hear=lambda message: made.heard.append(message),
        pace=pace,
    )
    made = End(session)
    made.running = asyncio.create_task(session.run())
    return made
