"""The container's side of `modal.forward`: connects visitors of a tunnel's URL to a port of this container.

The process makes a socket and sends it to the node with its report; the node listens at it, and the ingress
connects there. A thread with an event loop of its own passes the bytes on, so a tunnel works in an enter hook
and while a request keeps the container's loop busy.
"""

import asyncio
import contextlib
import os
import secrets
import socket
import threading
from collections.abc import Coroutine
from typing import Any

from homeport.contract.container import MAX_TUNNELS
from homeport.runner import ways
from homeport.runner.door import Door
from homeport.runner.report import Report
from homeport.runner.servers import port as ports
from homeport.sdk.exception import ExecutionError, InvalidError

HEAD_BYTES = 64 * 1024  # of a refused request, read before the answer


class Tunnels:
    """The tunnels of this process, by their names."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._open: dict[str, _Tunnel] = {}

    def open(self, port: int) -> str:
        """Start to connect visitors to the port; return the tunnel's name, by which the server knows its URL."""
        if os.getpid() != self._pid:
            raise InvalidError("`modal.forward` works only in the container's own process.")
        with self._lock:
            if any(tunnel.port == port for tunnel in self._open.values()):
                raise InvalidError(f"Port {port} is already forwarded.")
            if len(self._open) >= MAX_TUNNELS:
                raise InvalidError(f"A container can forward {MAX_TUNNELS} ports at once.")
            name = secrets.token_hex(10)
            # No close-on-exec gap: Python's sockets have the flag from the beginning.
            listener = socket.socket(socket.AF_UNIX)
            try:
                self._report.tunnel(name, port, listener)
            except OSError:
                listener.close()
                raise ExecutionError(
                    "this container cannot forward a port, because the server was restarted since the "
                    "container started: it works in the next container"
                ) from None
            self._open[name] = _Tunnel(port, listener)
            return name

    def serve(self, name: str) -> None:
        """Accept connections, because the server has reported that the node listens."""
        with self._lock:
            tunnel = self._open[name]
        self._run(tunnel.serve())

    def close(self, name: str) -> None:
        """Connect no more visitors to the port; open connections end."""
        with self._lock:
            tunnel = self._open.pop(name, None)
        if tunnel is None or os.getpid() != self._pid:
            return
        self._report.closed(name)
        self._run(tunnel.close())

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        with self._lock:
            if self._loop is None:
                # Not uvloop's, which would accept connections without the door's check of the user.
                self._loop = asyncio.SelectorEventLoop()
                threading.Thread(
                    target=self._loop.run_forever, name="homeport tunnels", daemon=True
                ).start()
        asyncio.run_coroutine_threadsafe(work, self._loop).result()


class _Tunnel:
    """One port."""

    def __init__(self, port: int, listener: socket.socket) -> None:
        self.port = port
        self._listener = listener
        self._server: asyncio.AbstractServer | None = None
        self._visits: set[asyncio.Task[Any]] = set()
        self._ours: set[str] = set()  # inodes of listening sockets that this container has

    async def serve(self) -> None:
        """Accept connections at the socket, which the node has given an address."""
        door = Door(self._listener.detach())
        self._server = await asyncio.start_unix_server(self._visit, sock=door)

    async def close(self) -> None:
        """Refuse new connections and end the open ones."""
        if self._server is None:
            self._listener.close()
            return
        self._server.close()
        for visit in list(self._visits):
            visit.cancel()

    async def _visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._visits.add(task)
        try:
            if await asyncio.to_thread(self._is_ours):
                await ways.lead(
                    reader, writer, lambda: asyncio.open_connection(ways.HERE, self.port)
                )
            else:
                await self._refuse(reader, writer)
        except asyncio.CancelledError:  # the tunnel is closed
            pass
        finally:
            self._visits.discard(task)
            writer.close()

    def _is_ours(self) -> bool:
        """Return whether a process of this container listens on the port, and no other program."""
        with contextlib.suppress(OSError):  # no descriptor is left
            listening = ports.listeners(self.port)
            if not listening <= self._ours and listening and ports.ours(self.port):
                self._ours = listening
            return bool(listening) and listening <= self._ours
        return False

    async def _refuse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = f"homeport: no program of this container listens on port {self.port}\n".encode()
        head = (
            "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain; charset=utf-8\r\n"
            f"Connection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        with contextlib.suppress(OSError):
            await reader.read(HEAD_BYTES)
            writer.write(head.encode() + body)
            await writer.drain()
