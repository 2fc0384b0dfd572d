"""A HAProxy of homeport with one container behind it, to measure what a request costs in it alone."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from socket import socket
from typing import Any

import psutil

from homeport.contract.traffic import PoolKey
from homeport.ingress.haproxy import HAProxy
from homeport.settings import Settings

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
POOL = PoolKey("app", "f", "rv-1")


async def opened(root: Path, **settings: Any) -> HAProxy:
    """Return an ingress in a new home below `root`; it is not started yet."""
    made = Settings(home=root / "home", http_port=0, **settings)
    for directory in (made.run_dir, made.socket_dir):
        directory.mkdir(parents=True, exist_ok=True)
    ingress = HAProxy(made, tied=True)
    await ingress.open()
    return ingress


async def started(ingress: HAProxy, root: Path) -> asyncio.Server:
    """Start it, with a container in POOL that answers `ok`; return the container's server."""
    server = await asyncio.start_unix_server(_answer, str(root / "one.sock"))
    await ingress.start()
    await ingress.attach(POOL, "one", f"unix:{root}/one.sock", 10)
    return server


def cost_us(
    ingress: HAProxy,
    wire: socket,
    request: bytes,
    count: int,
    check: Callable[[bytes], None] = lambda _answer: None,
) -> float:
    """Return HAProxy's microseconds of CPU for a request, on one connection; `check` sees each answer. Blocks."""
    haproxy = psutil.Process(ingress.pid)
    for requests in (200, count):  # the first ones warm up
        before = sum(haproxy.cpu_times()[:2])
        for _ in range(requests):
            wire.sendall(request)
            while not (answer := wire.recv(65536)).endswith(b"ok"):
                check(answer)
    return (sum(haproxy.cpu_times()[:2]) - before) / count * 1e6


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(ANSWER)
    except (asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
        writer.close()
