"""What TLS costs HAProxy: CPU for a request on an open connection beside plain HTTP, and 1,000 certificates.

uv run python -m bench.tls
"""

import asyncio
import socket
import statistics
import tempfile
import time
from pathlib import Path

import psutil
from cryptography.hazmat.primitives.asymmetric import ec
from tests.certificates import Authority

from homeport.contract.traffic import Endpoint, PoolKey
from homeport.ingress.haproxy import HAProxy
from homeport.settings import Settings

REQUESTS = 4000
ROUNDS = 5
CERTIFICATES = 1000
SECURE, PLAIN = "a.localhost", "b.localhost"  # the second one has no certificate
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
POOL = PoolKey("app", "f", "rv-1")


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/var/tmp") as folder:
        asyncio.run(_warm(Path(folder)))
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/var/tmp") as folder:
        asyncio.run(_many(Path(folder) / "none", 0))
        asyncio.run(_many(Path(folder) / "many", CERTIFICATES))


async def _warm(root: Path) -> None:
    authority, ingress = Authority(), await _opened(root)
    server = await asyncio.start_unix_server(_answer, str(root / "one.sock"))
    await ingress.start()
    await ingress.attach(POOL, "one", f"unix:{root}/one.sock", 10)
    for name, host in (("a", SECURE), ("b", PLAIN)):
        await ingress.route(Endpoint(id=name, pool=POOL, hosts=(host,)))
    await ingress.certificate("a", authority.pem(SECURE), [SECURE])
    costs: dict[str, list[float]] = {PLAIN: [], SECURE: []}
    for _ in range(ROUNDS):
        for host, found in costs.items():
            found.append(await asyncio.to_thread(_round, ingress, host, authority))
    server.close()
    await ingress.close()
    plain, secure = (statistics.median(costs[host]) for host in (PLAIN, SECURE))
    print(
        f"CPU of HAProxy: plain {plain:.1f} us, TLS {secure:.1f} us, more {secure - plain:.1f} us"
    )


def _round(ingress: HAProxy, host: str, authority: Authority) -> float:
    """Return HAProxy's microseconds of CPU for a request, on one connection."""
    port = ingress.https_port if host == SECURE else ingress.http_port
    wire = socket.create_connection(("127.0.0.1", port))
    if host == SECURE:
        wire = authority.context("http/1.1").wrap_socket(wire, server_hostname=host)
    request = f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    haproxy = psutil.Process(ingress.pid)
    with wire:
        for count in (200, REQUESTS):  # the first ones warm up
            before = sum(haproxy.cpu_times()[:2])
            for _ in range(count):
                wire.sendall(request)
                while not wire.recv(65536).endswith(b"ok"):
                    pass
        return (sum(haproxy.cpu_times()[:2]) - before) / REQUESTS * 1e6


async def _many(root: Path, count: int) -> None:
    authority, key = Authority(), ec.generate_private_key(ec.SECP256R1())
    folder = root / "home" / "certificates"
    folder.mkdir(parents=True)
    for number in range(count):
        pem = authority.pem(f"h{number}.localhost", key=key)
        (folder / f"h{number}.pem").write_bytes(pem)
    began = time.monotonic()
    ingress = await _opened(root)
    opened = time.monotonic()
    await ingress.start()
    started = time.monotonic()
    memory = psutil.Process(ingress.pid).memory_full_info()
    await ingress.close()
    print(
        f"{count} certificates: read in {opened - began:.2f} s, HAProxy starts in {started - opened:.2f} s, "
        f"{memory.rss / 2**20:.1f} MiB resident, {memory.uss / 2**20:.1f} MiB of its own"
    )


async def _opened(root: Path) -> HAProxy:
    settings = Settings(home=root / "home", http_port=0, tls="files", https_port=0)
    for directory in (settings.run_dir, settings.socket_dir):
        directory.mkdir(parents=True, exist_ok=True)
    ingress = HAProxy(settings, tied=True)
    await ingress.open()
    return ingress


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(ANSWER)
    except (asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
        writer.close()


if __name__ == "__main__":
    main()
