"""Connects a container that has a network of its own to the URLs of its homeport.

Such a container does not reach the machine's loopback, to which these URLs resolve. So the runner listens at the same
port of the container's own loopback, and passes bytes on to a socket of the ingress that the cell shows. The ingress
treats these requests like those of strangers.
"""

import asyncio
import contextlib
import socket
import sys
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from homeport.contract.container import Launch

HERE = "127.0.0.1"
USUAL = {"http": 80, "https": 443}
SIZE = 64 * 1024  # bytes that are read at once

_listeners: list[socket.socket] = []
_servers: list[asyncio.AbstractServer] = []
_target = ""


def begin(launch: Launch) -> None:
    """Listen, before the user's code can; connections wait in the kernel until `serve`."""
    global _target  # noqa: PLW0603 - one for the whole process, as its network is
    _target = launch.ingress
    urls = [urlsplit(url) for url in launch.order.urls.values()] if _target else []
    for port in {url.port or USUAL[url.scheme] for url in urls if url.scheme in USUAL}:
        if port in launch.function.ports:
            print(  # noqa: T201 - the container's log
                f"the URLs of this app do not answer inside: its server has port {port}",
                file=sys.stderr,
            )
            continue
        _listeners.append(socket.create_server((HERE, port)))


def apart() -> bool:
    """Return whether this container has a network of its own, where no port belongs to another one."""
    return bool(_target)


async def serve() -> None:
    """Pass on connections as long as the running loop runs."""
    while _listeners:
        _servers.append(await asyncio.start_server(_visit, sock=_listeners.pop()))


async def _visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await lead(reader, writer, lambda: asyncio.open_unix_connection(_target))


async def lead(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    connect: Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]],
) -> None:
    """Pass the bytes of a connection on to another one and back, until one of them ends."""
    writers, pumps = [writer], []
    try:
        back, there = await connect()
        writers.append(there)
        pumps = [asyncio.ensure_future(_pump(*pair)) for pair in ((reader, there), (back, writer))]
        await asyncio.gather(*pumps)
    except OSError:  # one end has gone, so the other goes
        pass
    finally:
        for pump in pumps:
            pump.cancel()
        for open_writer in writers:
            open_writer.close()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(SIZE):
        sink.write(data)
        await sink.drain()
    with contextlib.suppress(OSError):
        sink.write_eof()
