"""Two ingresses for the suite of the role: the fake, and HAProxy with servers of the test's own."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx

from homeport import wire
from homeport.contract.errors import Failure, NotFound
from homeport.contract.traffic import Endpoint, PoolKey
from homeport.ingress.haproxy import HAProxy
from homeport.settings import Settings
from tests.fakes import FakeIngress
from tests.ingress.conftest import POOL, Activator, Upstream, routed
from tests.waiting import until


class Answered:
    """The first answers that an ingress has reported."""

    def __init__(self) -> None:
        self.ms: dict[str, list[float]] = {}

    def __call__(self, container: str, ms: float) -> None:
        self.ms.setdefault(container, []).append(ms)

    async def by(self, *containers: str) -> None:
        """Return when all of these are reported."""
        await until(lambda: set(containers) <= set(self.ms), "the first answers")


class Fake:
    """The ingress in memory; its containers answer when they may."""

    def __init__(self) -> None:
        self.ingress = FakeIngress()
        self.answered = Answered()
        self.ingress.watch(self.answered)
        self.parked: list[PoolKey] = []
        self.ingress.park = self._park
        self.may_go = asyncio.Event()
        self.on_park = None
        self.roused: list[PoolKey] = []
        self.ingress.rouse = self.roused.append

    async def attach(self, name: str, slots: int) -> None:
        await self.ingress.attach(POOL, name, f"unix:/{name}", slots)

    def ask(self) -> asyncio.Task[str]:
        return asyncio.create_task(self.ingress.visit(POOL, until=self.may_go))

    async def ask_at(self, endpoint: Endpoint) -> str:
        return await self.ingress.visit(endpoint.id, until=self.may_go)

    def most(self, name: str) -> int:
        return self.ingress.most.get(name, 0)

    async def _park(self, key: PoolKey) -> None:
        self.parked.append(key)
        await self.on_park()


class Real:
    """HAProxy, with servers of the test's own."""

    def __init__(self, ingress: HAProxy, directory: Path, activator: Activator) -> None:
        self.ingress = ingress
        self.answered = Answered()
        ingress.watch(self.answered)
        self.may_go = asyncio.Event()
        self.on_park = None
        self.url = ""  # of an endpoint that leads to POOL
        self._directory = directory
        self._upstreams: dict[str, Upstream] = {}
        self._client = httpx.AsyncClient(timeout=30, trust_env=False)
        self.parked = activator.parked
        activator.answer = self._park
        self._activator = activator

    @property
    def roused(self) -> list[PoolKey]:
        return [PoolKey.parse(pool) for pool in self._activator.roused]

    async def attach(self, name: str, slots: int) -> None:
        container = self._upstreams[name] = await Upstream(name, self._directory).open()
        container.release = self.may_go
        await self.ingress.attach(POOL, name, container.address, slots)

    def ask(self) -> asyncio.Task[str]:
        return asyncio.create_task(self._visit(self.url))

    async def ask_at(self, endpoint: Endpoint) -> str:
        if endpoint.is_called:
            request = wire.Request(endpoint.id, b"x")
            answer = await wire.ask_async(str(self.ingress._settings.calls_socket), request)
            if answer.status == 404:
                raise NotFound
            return json.loads(bytes(answer.body))["name"]
        return await self._visit(f"http://127.0.0.1:{endpoint.local_port}")

    async def _visit(self, url: str) -> str:
        try:
            answer = await self._client.get(url)
        except httpx.TransportError as error:
            raise Failure(str(error)) from None
        if answer.status_code == 404:
            raise NotFound(answer.text)
        if answer.status_code != 200:
            raise Failure(answer.text)
        return answer.json()["name"]

    def most(self, name: str) -> int:
        return self._upstreams[name].most

    async def _park(self, _pool: str) -> str:
        await self.on_park()
        return "go"

    async def finish(self) -> None:
        """Let all requests end."""
        self.may_go.set()
        await self._client.aclose()

    async def close(self) -> None:
        """End the containers."""
        for container in self._upstreams.values():
            await container.close()


@contextlib.asynccontextmanager
async def real(directory: Path) -> AsyncIterator[Real]:
    """Run a HAProxy; it ends before its containers do, which then lose no new connection."""
    settings = Settings(home=directory / "home", http_port=0)
    settings.run_dir.mkdir(parents=True)
    settings.socket_dir.mkdir(parents=True, exist_ok=True)
    async with contextlib.AsyncExitStack() as opened:
        activator = Activator(settings.activator_socket)
        await activator.open()
        opened.push_async_callback(activator.close)
        haproxy = HAProxy(settings, tied=True)
        house = Real(haproxy, directory, activator)
        opened.push_async_callback(house.close)
        await haproxy.open()
        opened.push_async_callback(haproxy.close)
        await haproxy.start()
        opened.push_async_callback(house.finish)
        house.url = await routed(haproxy)
        yield house


async def load(house, running: int, queued: int):
    """Wait until the load is as given; return it."""

    async def reached():
        told = (await house.ingress.load([POOL])).get(POOL)
        return told if told and (running, queued) == (told.running, told.queued) else None

    return await until(reached, f"{running} requests inside and {queued} in the queue")
