"""What HTTPS costs: a request on an open connection, the first answer after a deploy, and 1,000 certificates."""

import asyncio
import contextlib
import socket
import ssl
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from cryptography.hazmat.primitives.asymmetric import ec
from tests.certificates import Authority
from tests.control.certificates import authority
from tests.journeys.conftest import Terminal
from tests.waiting import wait_for

from bench import processes
from bench.contenders.home import Server, home, label
from bench.figures import number, spread
from bench.ingress import POOL, cost_us, opened, started
from bench.plan import Plan
from bench.results import Table
from homeport.contract.traffic import Endpoint
from homeport.ingress.haproxy import HAProxy

REQUESTS = 4000
CERTIFICATES = 1000
IDLE_S = 20.0
SECURE, PLAIN = "a.localhost", "b.localhost"  # the second one has no certificate
FILES = {"tls": "files", "https_port": 0}
SCRIPT = """
import modal
app = modal.App("hello{number}")
@app.function()
@modal.fastapi_endpoint()
def f():
    return "hi"
"""


def measure(plan: Plan) -> None:
    """Real HAProxy, a real CA (pebble) with a real name server (knot)."""
    with plan.folder() as folder:
        plain, secure = asyncio.run(_warm(folder, plan.times(5, 2)))
    first, idle = _deploys(plan)
    counts = (0, plan.times(CERTIFICATES, 100))
    found = []
    for count in counts:
        with plan.folder() as folder:
            found.append(asyncio.run(_many(folder, count)))
    plan.findings.tables.append(
        Table(
            title="HTTPS",
            told="CPU of HAProxy for a request on one open connection by HTTP/1.1; from the start of `homeport deploy` "
            "to the first answer with a certificate that a real CA (pebble) has just issued; CPU of the control plane "
            f"with certificates and an idle app in {IDLE_S:.0f} s.",
            columns=["", "homeport"],
            rows=[
                ["a plain request (us)", str(spread(plain))],
                ["a request over TLS (us)", str(spread(secure))],
                ["more (us)", number(statistics.median(secure) - statistics.median(plain))],
                ["deploy to the first HTTPS answer (s)", str(spread(first))],
                ["the control plane, idle (% of a core)", number(idle)],
            ],
        )
    )
    plan.findings.tables.append(
        Table(
            title="Certificates",
            told="A new HAProxy with this many certificates of one host each (ECDSA): until they are read and checked, "
            "until it answers, and its memory. Resident counts the program's own files too; private (USS) does not.",
            columns=["certificates", "read (s)", "start (s)", "resident (MiB)", "private (MiB)"],
            rows=[
                [str(count), *(number(value) for value in values)]
                for count, values in zip(counts, found, strict=True)
            ],
        )
    )


def _deploys(plan: Plan) -> tuple[list[float], float]:
    """Return the seconds from deploys to their first answers, and how much an idle control plane takes."""
    seconds = []
    with plan.folder() as folder, _served(folder) as (terminal, port, context):
        for turn in range(plan.times(6, 2)):
            script = folder / f"script{turn}.py"
            script.write_text(SCRIPT.format(number=turn))
            host = f"ada--hello{turn}-f.apps.{authority.ZONE}"
            began = time.perf_counter()
            terminal.run("deploy", script)
            wait_for(lambda host=host: _answers(port, host, context), "HTTPS")
            if turn:  # the first one starts the server
                seconds.append(time.perf_counter() - began)
        cpu = processes.Cpu([Server(terminal).pid], label)
        time.sleep(plan.times(int(IDLE_S), 5))
        idle = cpu.seconds().get("control plane", 0.0) / plan.times(int(IDLE_S), 5)
    return seconds, 100 * idle


@contextlib.contextmanager
def _served(folder: Path) -> Iterator[tuple[Terminal, int, ssl.SSLContext]]:
    """A homeport with a CA; its port of HTTPS, and what trusts the CA."""
    http_port, https_port = authority.free_port(), authority.free_port()
    (folder / "ca").mkdir()
    with authority.running(folder / "ca", http_port) as ca, home() as terminal:
        terminal.environ |= {
            "HOMEPORT_TLS": "acme",
            "HOMEPORT_HTTP_PORT": str(http_port),
            "HOMEPORT_HTTPS_PORT": str(https_port),
            "HOMEPORT_DOMAIN": f"apps.{authority.ZONE}",
            "HOMEPORT_EMAIL": "ops@example.test",
            "HOMEPORT_ACME_DIRECTORY": ca.directory,
            "HOMEPORT_ACME_CA": str(ca.bundle),
            "HOMEPORT_DNS_RESOLVER": f"127.0.0.1:{ca.dns_port}",
            "HOMEPORT_PUBLIC_ADDRESSES": "127.0.0.1",
        }
        yield terminal, https_port, ssl.create_default_context(cadata=ca.roots())


def _answers(port: int, host: str, context: ssl.SSLContext) -> bool:
    with contextlib.suppress(OSError):
        wire = socket.create_connection(("127.0.0.1", port), timeout=60)
        with wire, context.wrap_socket(wire, server_hostname=host) as tls:
            tls.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            return tls.recv(65536).startswith(b"HTTP/1.1 200")
    return False


async def _warm(root: Path, rounds: int) -> tuple[list[float], list[float]]:
    """Return HAProxy's microseconds for a plain request and for one over TLS, of each round."""
    ca, ingress = Authority(), await opened(root, **FILES)
    server = await started(ingress, root)
    for name, host in (("a", SECURE), ("b", PLAIN)):
        await ingress.route(Endpoint(id=name, pool=POOL, hosts=(host,)))
    await ingress.certificate("a", ca.pem(SECURE), [SECURE])
    costs: dict[str, list[float]] = {PLAIN: [], SECURE: []}
    for _ in range(rounds):
        for host, found in costs.items():
            found.append(await asyncio.to_thread(_round, ingress, host, ca))
    server.close()
    await ingress.close()
    return costs[PLAIN], costs[SECURE]


def _round(ingress: HAProxy, host: str, ca: Authority) -> float:
    """Return HAProxy's microseconds of CPU for a request, on one connection."""
    port = ingress.https_port if host == SECURE else ingress.http_port
    wire = socket.create_connection(("127.0.0.1", port))
    if host == SECURE:
        wire = ca.context("http/1.1").wrap_socket(wire, server_hostname=host)
    request = f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    with wire:
        return cost_us(ingress, wire, request, REQUESTS)


async def _many(root: Path, count: int) -> tuple[float, float, float, float]:
    """Return the seconds until they are read and until HAProxy answers, and its resident and private MiB."""
    ca, key = Authority(), ec.generate_private_key(ec.SECP256R1())
    folder = root / "home" / "certificates"
    folder.mkdir(parents=True)
    for place in range(count):
        pem = ca.pem(f"h{place}.localhost", key=key)
        (folder / f"h{place}.pem").write_bytes(pem)
    began = time.monotonic()
    ingress = await opened(root, **FILES)
    ready = time.monotonic()
    await ingress.start()
    answers = time.monotonic()
    memory = psutil.Process(ingress.pid).memory_full_info()
    await ingress.close()
    return ready - began, answers - ready, memory.rss / 2**20, memory.uss / 2**20
