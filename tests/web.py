"""Web servers of a test: the standard library's in a thread, and the end of aiohttp's on the loop."""

import asyncio
import contextlib
import http.server
import threading
from collections.abc import Iterator

from aiohttp import web

from tests.waiting import turns

POLL_S = 0.01  # the library's 0.5 s is what each end of a server would take


@contextlib.contextmanager
def serving(server: http.server.HTTPServer) -> Iterator[http.server.HTTPServer]:
    """Let a server answer in a thread, until the context ends."""
    thread = threading.Thread(target=server.serve_forever, args=(POLL_S,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def served(handler: type[http.server.BaseHTTPRequestHandler] | object):
    """Return the context of a server at a free port of 127.0.0.1."""
    return serving(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))


async def stop_accepting(*servers: asyncio.Server) -> None:
    """Let what these servers have accepted just now become connections, and accept no more.

    Python 3.11 forgets such a connection without closing it, if the server is closed a turn of the loop later.
    """
    for server in servers:
        for listening in server.sockets:
            asyncio.get_running_loop().remove_reader(listening.fileno())
    await turns(5)


async def end(runner: web.AppRunner) -> None:
    """End a server of aiohttp with all its connections, also those that it has accepted just now."""
    await stop_accepting(*(site._server for site in runner.sites))
    await runner.cleanup()
