"""A real HAProxy, containers that are servers in the test's process, and an activator that the test controls."""

import asyncio
import contextlib
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx
import pytest
from aiohttp import web

from homeport.contract.traffic import Endpoint, Pass, PoolKey
from homeport.ingress.haproxy import HAProxy
from homeport.link.authority import Authority
from homeport.settings import Settings
from tests.ingress.machines import A, Machine
from tests.web import end

POOL = PoolKey("app", "f", "rv-1")


class Upstream:
    """A container that answers with its name and the request; while `release` is cleared, requests stay inside."""

    def __init__(self, name: str, root: Path) -> None:
        self.name = name
        self.address = f"unix:{root / name}.sock"
        self.release = asyncio.Event()
        self.release.set()
        self.inside = self.most = 0
        self.paths: list[str] = []
        self._runner: web.AppRunner | None = None

    async def open(self) -> "Upstream":
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{tail:.*}", self._answer)
        self._runner = web.AppRunner(app, keepalive_timeout=600, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.UnixSite(self._runner, self.address.removeprefix("unix:")).start()
        return self

    async def close(self) -> None:
        if self._runner is not None:
            await end(self._runner)
            self._runner = None

    async def _answer(self, request: web.Request) -> web.Response:
        self.inside += 1
        self.paths.append(request.raw_path)
        self.most = max(self.most, self.inside)
        try:
            await self.release.wait()
            return web.json_response(
                {
                    "name": self.name,
                    "path": request.raw_path,
                    "headers": {k.lower(): v for k, v in request.headers.items()},
                }
            )
        finally:
            self.inside -= 1


class Activator:
    """Answers `park` as the test says."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.parked: list[str] = []
        self.lists = True  # whether visitors may see which URLs there are
        self.roused: list[str] = []
        self.lines: list[list[str]] = []
        self.answer: Callable[[str], Awaitable[str]] = self._refuse
        self._server: asyncio.Server | None = None

    async def open(self) -> None:
        self._server = await asyncio.start_unix_server(self._visit, path=str(self._path))

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _refuse(self, pool: str) -> str:
        return f"no 503 nothing for {pool}"

    async def _visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = (await reader.readline()).decode().split()
        if line[0] == "awake":
            self.roused.append(line[1])
            writer.close()
            return
        self.lines.append(line)
        if line == ["list"]:
            writer.write(b"go\n" if self.lists else b"no 403 you may not\n")
            writer.close()
            return
        pool = line[1]
        self.parked.append(pool)
        answering = asyncio.ensure_future(self.answer(pool))
        leaving = asyncio.ensure_future(reader.read(1))
        await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if answering.done():
            writer.write(answering.result().encode() + b"\n")
            leaving.cancel()
        else:
            answering.cancel()
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await asyncio.gather(answering, leaving, return_exceptions=True)
        writer.close()


@pytest.fixture
def make_settings(tmp_path):
    """Make settings with the test's own home."""

    def make(**changes) -> Settings:
        settings = Settings(**{"home": tmp_path / "home", "http_port": 0, **changes})
        settings.run_dir.mkdir(parents=True, exist_ok=True)
        settings.socket_dir.mkdir(parents=True, exist_ok=True)
        return settings

    return make


@pytest.fixture
async def start(make_settings, upstream):
    """Start an ingress with these settings. It ends before the containers do, which then lose no new connection."""
    opened = []

    async def start(**changes) -> HAProxy:
        ingress = HAProxy(make_settings(**changes), tied=True)
        await ingress.open()
        await ingress.start()
        opened.append(ingress)
        return ingress

    yield start
    for ingress in opened:
        await ingress.close()


@pytest.fixture
async def ingress(start) -> HAProxy:
    """An ingress on a free port of 127.0.0.1."""
    return await start()


@pytest.fixture
async def activator(make_settings):
    """An activator: HAProxy's `park.lua` connects to it."""
    activator = Activator(make_settings().activator_socket)
    await activator.open()
    yield activator
    await activator.close()


@pytest.fixture
async def upstream(tmp_path):
    """Start a container of that name."""
    opened = []

    async def upstream(name: str) -> Upstream:
        opened.append(await Upstream(name, tmp_path).open())
        return opened[-1]

    yield upstream
    for each in opened:
        each.release.set()
        await each.close()


@pytest.fixture
async def visitor():
    """An HTTP client."""
    async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
        yield client


def opened_by(secret: str, **more) -> Pass:
    """Return what the ingress is told of a proxy token with this secret."""
    return Pass(sha256=hashlib.sha256(secret.encode()).hexdigest(), **more)


async def routed(ingress: HAProxy, pool: PoolKey = POOL, **changes) -> str:
    """Route an endpoint to a pool; return its local URL."""
    port = await ingress.free_port()
    told = {"id": f"e-{port}", "hosts": (f"e-{port}.localhost",), **changes}
    await ingress.route(Endpoint(pool=pool, local_port=port, **told))
    return f"http://127.0.0.1:{port}"


async def abandoned(ingress: HAProxy) -> None:
    """End everything but HAProxy, as if the control plane's process was killed."""
    await ingress._tasks.close()
    await ingress._supervisor._tasks.close()
    ingress._rings.close()
    ingress._ports.close()
    ingress._calls._listener.close()
    ingress._urls._listener.close()


@pytest.fixture
def ca(make_settings) -> Authority:
    """The cluster's CA, in the ingress's home."""
    made = Authority(make_settings().home / "cluster")
    made.open()
    return made


@pytest.fixture
async def machine(tmp_path, ca, upstream):
    """Another machine, `a`. Its HAProxy ends before the containers do."""
    made = await Machine(tmp_path, ca, A).open()
    yield made
    await made.port.close()
