"""What a proxy token, a rate limit and a canary cost HAProxy: CPU for a request on an open connection.

uv run python -m bench.guards
"""

import asyncio
import hashlib
import socket
import statistics
import tempfile
from pathlib import Path

from bench.ingress import POOL, cost_us, opened, started
from homeport.contract.rates import Rate
from homeport.contract.traffic import Endpoint, Pass, Split
from homeport.ingress.haproxy import HAProxy

REQUESTS = 3000
ROUNDS = 5
REALMS = ("a" * 20, "b" * 20)
#: Endpoint -> the token that its requests have.
CASES = {"open": "", "limited": "", "wide": "wk-1", "narrow": "wk-2", "rated": "wk-3", "canary": ""}


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory(prefix="bench-", dir="/var/tmp") as folder:
        asyncio.run(_measure(Path(folder)))


async def _measure(root: Path) -> None:
    ingress = await opened(root)
    server = await started(ingress, root)
    for name, token in CASES.items():
        endpoint = Endpoint(
            id=name,
            pool=POOL,
            hosts=(f"{name}.localhost",),
            protected=bool(token),
            realms=REALMS,
            limited="c" * 20 if name == "limited" else "",
        )
        await ingress.route(endpoint)
    sha256 = hashlib.sha256(b"ws-1").hexdigest()
    often = Rate(1_000_000, "s")
    await ingress.tokens(
        {
            "wk-1": Pass(sha256=sha256),
            f"{REALMS[1]}/wk-2": Pass(sha256=sha256),
            "wk-3": Pass(sha256=sha256, rate=often),
        }
    )
    await ingress.rates({"c" * 20: often})
    await ingress.route(Endpoint(id="canary-v2", pool=POOL, hosts=("canary-v2.localhost",)))
    await ingress.split("canary", Split(endpoint="canary-v2", per_mille=100))
    costs: dict[str, list[float]] = {name: [] for name in CASES}
    for _ in range(ROUNDS):
        for name, found in costs.items():
            found.append(await asyncio.to_thread(_round, ingress, name))
    server.close()
    await ingress.close()
    for name, found in costs.items():
        print(f"{name:8} {statistics.median(found):.1f} us of HAProxy's CPU for a request")


def _round(ingress: HAProxy, name: str) -> float:
    """Return HAProxy's microseconds of CPU for a request, on one connection."""
    token = f"Authorization: Bearer {CASES[name]}.ws-1\r\n" if CASES[name] else ""
    request = f"GET / HTTP/1.1\r\nHost: {name}.localhost\r\n{token}\r\n".encode()
    with socket.create_connection(("127.0.0.1", ingress.http_port)) as wire:
        return cost_us(ingress, wire, request, REQUESTS, _let_through)


def _let_through(answer: bytes) -> None:
    assert not answer.startswith(b"HTTP/1.1 4"), answer


if __name__ == "__main__":
    main()
