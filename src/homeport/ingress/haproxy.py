"""The Ingress role by HAProxy: endpoints in maps, pools in interchangeable backends.

Everything that HAProxy knows is known here first, so that a new process, after a reload or a
crash, begins with all of it. An old process that finishes its requests after a reload hears nothing
more: what it cannot place it leads to the newest one, by the socket `again`.
"""

import asyncio
import contextlib
import dataclasses
import logging
import shutil
import time
import urllib.parse
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from homeport.contract.errors import IngressError
from homeport.contract.traffic import Endpoint, Load, PoolKey, RequestRecord
from homeport.ingress import backends, config, process
from homeport.ingress.backends import Backend
from homeport.ingress.config import Server
from homeport.ingress.maps import Maps, pool_text
from homeport.ingress.ports import Ports
from homeport.ingress.process import Process
from homeport.ingress.requests import POLL_S, SOON_S, Requests
from homeport.ingress.runtime import Command, Row, Runtime
from homeport.settings import Settings

FIRST_BACKENDS = 64
FIRST_PORTS = 16
LOW = 4  # fewer than that left: double the supply
MAX_ALIASES = 1000  # of one pool; spellings of class parameters are the visitors' to choose
# A request that looked its pool up just before the last server drained has arrived by then.
SETTLE_S = 0.05

log = logging.getLogger(__name__)


class HAProxy:
    """HAProxy, and nobody else knows it."""

    def __init__(self, settings: Settings, *, tied: bool, ports: Iterable[int] = ()) -> None:
        self.http_port = 0
        self._settings = settings
        self._tied = tied
        self._known_ports = list(ports)
        self._directory = settings.run_dir / "ingress"
        self._ports = Ports(settings.host)
        self._maps = Maps(self._directory)
        self._binary: process.Binary | None = None
        self._process: Process | None = None
        self._retired: list[Process] = []
        self._generation = 0
        self._supply = [config.backend_name(n) for n in range(FIRST_BACKENDS)]
        self._backends = FIRST_BACKENDS
        self._reserved: dict[str, str] = {}  # pool -> the backend that it had under another server
        self._pools: dict[PoolKey, Backend] = {}
        self._endpoints: dict[str, Endpoint] = {}
        self._requests = Requests()
        self._heard = asyncio.Event()  # somebody wants to hear of each request from now on
        self._listener: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()  # one change at a time
        self._watcher: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """Of the process that accepts requests; 0 while there is none."""
        return self._process.pid if self._process else 0

    def watch(self, answered: Callable[[str, float], None]) -> None:
        """Whom to tell."""
        self._requests.answered = answered

    def hear(self, ended: Callable[[RequestRecord], None] | None) -> None:
        """Whom to tell of each request that has ended."""
        self._requests.ended = ended
        if ended is not None:
            self._heard.set()

    async def open(self) -> None:
        """Have the ports, an earlier server's included."""
        self._binary = await asyncio.to_thread(process.find, self._settings.haproxy)
        await asyncio.to_thread(self._take_over)
        try:
            if not self.http_port:
                self.http_port = self._ports.open(self._settings.http_port)
                self._ports.keep(self._known_ports)
            self._ports.supply(max(0, FIRST_PORTS - self._ports.free))
        except BaseException:
            self._ports.close()
            raise

    async def start(self) -> None:
        """Start answering; a process that an earlier server left hands over."""
        async with self._turn:
            self._forget_stale()
            await self._start()
            for old in self._retired:
                old.retire(self._containers())
        self._watcher = asyncio.create_task(self._watch(), name="haproxy watcher")
        self._listener = asyncio.create_task(self._listen(), name="haproxy requests")

    async def close(self) -> None:
        """Stop answering and leave nothing behind."""
        for task in (self._watcher, self._listener):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        for each in self._processes():
            each.kill()
        self._process, self._retired = None, []
        self._ports.close()
        shutil.rmtree(self._directory, ignore_errors=True)
        self._unlink_sockets()

    async def route(self, endpoint: Endpoint) -> None:
        """Make the endpoint answer from its pool."""
        async with self._turn:
            port = endpoint.local_port
            known_port = port is not None and self._ports.claim(port)
            if port is not None and not known_port:
                self._ports.keep([port])
                if self._ports.claim(port):
                    await self._reload()
            before = self._endpoints.get(endpoint.id)
            self._endpoints[endpoint.id] = endpoint
            put, key = self._maps.put, endpoint.id
            put("methods", key, _quoted(endpoint.method) or None)
            put("protected", key, "1" if endpoint.protected else None)
            put("parameters", key, ",".join(sorted(map(_quoted, endpoint.parameters))) or None)
            put("pools", key, str(endpoint.pool))
            for host in endpoint.hosts:
                put("hosts", host, key)
            if port is not None:
                put("ports", str(port), key)
            if before is not None:
                for host in set(before.hosts) - set(endpoint.hosts):
                    put("hosts", host, None)
                if before.local_port not in (None, port):
                    put("ports", str(before.local_port), None)
            await self._publish()

    async def unroute(self, endpoint_id: str) -> None:
        """The endpoint's hosts and port are unknown from now on."""
        async with self._turn:
            endpoint = self._endpoints.pop(endpoint_id, None)
            if endpoint is None:
                return
            self._requests.forget(endpoint_id)
            for name in ("hosts", "ports"):
                for key, value in self._maps.items(name):
                    if value == endpoint_id:
                        self._maps.put(name, key, None)
            for name in ("pools", "methods", "protected", "parameters"):
                self._maps.put(name, endpoint_id, None)
            await self._publish()
            if endpoint.local_port is not None:
                self._ports.give_back(endpoint.local_port)

    async def attach(self, pool: PoolKey, container: str, address: str, slots: int) -> None:
        """Let the pool's requests into a container."""
        async with self._turn:
            known = self._pools.get(pool)
            if known is None:
                known = self._pools[pool] = await self._new_pool(pool)
            address = address.replace("unix:", "unix@", 1).replace("abstract:", "abns@", 1)
            server = Server(name=container, address=address, slots=slots)
            where = f"{known.backend}/{container}"
            leaving = [s for s in known.servers.values() if s.draining]
            known.servers[container] = server
            await self._tell(
                [
                    ("add", "server", where, *config.server_words(server)),
                    ("enable", "server", where),
                    ("enable", "health", where),
                    # The last one to drain still counted as usable; now it need not.
                    *(_state(known.backend, s.name, "drain") for s in leaving),
                ]
            )
            self._requests.expect(container)
            self._lead(pool, known)
            await self._publish()

    async def drain(self, pool: PoolKey, container: str) -> None:
        """Send it no new request; those inside, and those queued for it, go on."""
        async with self._turn:
            known = self._pools.get(pool)
            if known is None or container not in known.servers:
                return
            known.servers[container] = dataclasses.replace(known.servers[container], draining=True)
            known.settled_at[container] = time.monotonic() + SETTLE_S
            if known.open:
                await self._tell([_state(known.backend, container, "drain")])
                return
            # HAProxy fails a queue at once when its last server drains: so new requests are led
            # away from the backend instead, to park, and the server works its queue off.
            self._lead_away(pool, known)
            await self._publish()

    async def lose(self, pool: PoolKey, container: str) -> None:
        """A container has ended: let nobody in any more; who is queued for it comes in again."""
        async with self._turn:
            known = self._pools.get(pool)
            if known is None or container not in known.servers:
                return
            known.servers[container] = dataclasses.replace(known.servers[container], draining=True)
            commands = [_state(known.backend, container, "maint")]
            if not known.open:
                self._lead_away(pool, known)
                await self._publish()
                # HAProxy hands a backend's queue to a server that comes up, and to nobody else; all
                # in one breath, for a backend without any server fails its queue.
                commands += [
                    _state(known.backend, config.AGAIN, state) for state in ("maint", "ready")
                ]
            if (runtime := self._runtime) is not None:
                await runtime.ask(*commands)

    async def detach(self, pool: PoolKey, container: str) -> bool:
        """Forget a container; False while a connection to it is open: ask again."""
        async with self._turn:
            known = self._pools.get(pool)
            if known is None or container not in known.servers:
                return True
            if time.monotonic() < known.settled_at.get(container, 0.0):
                return False
            others = [s for s in known.servers.values() if s.name != container and not s.draining]
            if not others and await self._has_queue(known):
                return False
            where = f"{known.backend}/{container}"
            if not others:
                self._lead_away(pool, known)
                await self._publish()
            await self._tell([_state(known.backend, container, "maint")])
            if (runtime := self._runtime) is not None:
                answer = (await runtime.ask(("del", "server", where))).strip()
                if "still has" in answer or "idle" in answer:
                    return False
            del known.servers[container]
            known.settled_at.pop(container, None)
            self._requests.expect_no_more(container)
            return True

    async def drop(self, pool: PoolKey) -> None:
        """Forget a pool that has no container and no endpoint."""
        async with self._turn:
            known = self._pools.get(pool)
            if known is None or known.servers:
                return
            del self._pools[pool]
            self._lead_away(pool, known)
            await self._publish()
            self._supply.append(known.backend)

    async def load(self, pools: Collection[PoolKey]) -> dict[PoolKey, Load]:
        """What these pools are doing now."""
        known = {key: self._pools[key] for key in pools if key in self._pools}
        if (runtime := self._runtime) is None:
            return {key: pool.last for key, pool in known.items()}
        rows: dict[str, list[Row]] = {pool.backend: [] for pool in known.values()}
        for row in await runtime.stats(list(rows)):
            rows[row.backend].append(row)
        self._retired = [old for old in self._retired if old.running]
        unknown = frozenset[str]().union(*(old.containers for old in self._retired))
        return {
            key: backends.load(pool, rows[pool.backend], unknown) for key, pool in known.items()
        }

    def quantiles_ms(self, endpoint_id: str) -> tuple[int, int] | None:
        """The median and the 99th percentile of the endpoint's recent requests."""
        return self._requests.quantiles_ms(endpoint_id)

    async def alias(self, key: str, pool: PoolKey) -> None:
        """Send requests whose pool reads `key` to `pool`."""
        key = pool_text(key)
        async with self._turn:
            known = self._pools.get(pool)
            if known is None or key == pool_text(str(pool)):
                return
            known.aliases[key] = None
            if len(known.aliases) > MAX_ALIASES:
                oldest = next(iter(known.aliases))
                del known.aliases[oldest]
                self._maps.put("backends", oldest, None)
            if known.open:
                self._maps.put("backends", key, known.backend)
            await self._publish()

    async def tokens(self, hashes: Mapping[str, str]) -> None:
        """The proxy tokens that are valid from now on."""
        async with self._turn:
            for key, _ in self._maps.items("tokens"):
                if key not in hashes:
                    self._maps.put("tokens", key, None)
            for key, digest in hashes.items():
                self._maps.put("tokens", key, digest.lower())
            await self._publish()

    async def free_port(self) -> int:
        """A local port that no endpoint has."""
        async with self._turn:
            if self._ports.free <= LOW:
                self._ports.supply(len(self._ports.descriptors))
                await self._reload()
            return self._ports.take()

    def _take_over(self) -> None:
        """Go on where an earlier server ended; else an empty directory and no process of its."""
        old = process.left(self._directory, self._settings.socket_dir)
        main = self._directory / "port"
        if old and not self._tied and main.exists():
            port = int(main.read_text())
            if self._settings.http_port in (0, port):
                self.http_port = self._ports.adopt(old[0].listeners(), port)
        if self.http_port:
            self._retired = old
            self._generation = process.generation(old[0])
            self._maps.load()
            self._reserved = dict(self._maps.items("backends"))
            taken = {int(name.removeprefix("b")) for name in self._reserved.values()}
            self._backends = max([FIRST_BACKENDS, *(2 * n for n in taken)])
            self._supply = [config.backend_name(n) for n in range(self._backends) if n not in taken]
            return
        for each in old:
            each.kill()
        shutil.rmtree(self._directory, ignore_errors=True)
        self._directory.mkdir(parents=True, mode=0o700)
        shutil.copyfile(Path(__file__).with_name("park.lua"), self._directory / "park.lua")
        (self._directory / "activator").write_text(f"{self._settings.activator_socket}\n")
        self._unlink_sockets()

    async def _start(self) -> None:
        """A new process that begins with all that is known."""
        assert self._binary is not None
        self._generation += 1
        control = self._settings.socket_dir / f"haproxy-{self._generation}.sock"
        path = self._directory / f"haproxy-{self._generation}.cfg"
        (self._directory / "port").write_text(f"{self.http_port}")
        self._maps.take()
        text = config.render(
            config.Config(
                control=str(control),
                again=str(self._settings.socket_dir / "again.sock"),
                api=str(self._settings.control_socket),
                listeners=self._ports.descriptors,
                requests_per_s=self._settings.requests_per_s,
                max_connections=process.max_connections(),
                backends=self._backends,
                servers={p.backend: tuple(p.servers.values()) for p in self._pools.values()},
            )
        )
        path.write_text(text)
        self._process = await process.start(
            self._binary,
            path,
            control,
            self._ports.descriptors,
            self._directory / "haproxy.log",
            tied=self._tied,
        )
        self._requests.restart()
        commands = [
            _state(pool.backend, server.name, "drain")
            for pool in self._pools.values()
            for server in pool.servers.values()
            if server.draining and pool.open
        ]
        await Runtime(str(control)).tell(commands)

    async def _reload(self) -> None:
        """Hand over to a new process; the old one finishes what it has begun."""
        old = self._process
        if old is None and self._watcher is None:
            return  # `start` begins with everything
        await self._start()
        if old is not None:
            old.retire(self._containers())
            self._retired.append(old)

    async def _new_pool(self, pool: PoolKey) -> Backend:
        if backend := self._reserved.pop(text := pool_text(str(pool)), None):
            same = {k: None for k, v in self._maps.items("backends") if v == backend}
            same.pop(text, None)
            return Backend(backend, aliases=same)
        if len(self._supply) <= LOW:
            await self._grow_backends()
        return Backend(self._supply.pop(0))

    def _forget_stale(self) -> None:
        """What an earlier server knew and nobody has claimed since."""
        known = {backend.backend for backend in self._pools.values() if backend.open}
        for key, backend in self._maps.items("backends"):
            if backend not in known:
                self._maps.put("backends", key, None)
        self._supply += sorted(
            set(self._reserved.values()) - {p.backend for p in self._pools.values()}
        )
        self._reserved.clear()
        for name in ("hosts", "ports"):
            for key, endpoint in self._maps.items(name):
                if endpoint not in self._endpoints:
                    self._maps.put(name, key, None)
        for name in ("pools", "methods", "protected", "parameters"):
            for key, _ in self._maps.items(name):
                if key not in self._endpoints:
                    self._maps.put(name, key, None)

    async def _grow_backends(self) -> None:
        self._supply += [config.backend_name(n) for n in range(self._backends, 2 * self._backends)]
        self._backends *= 2
        await self._reload()

    async def _watch(self) -> None:
        """Replace a process that has ended on its own: connections wait in the kernel meanwhile."""
        while True:
            current = self._process
            if current is None:
                return
            await current.ended()
            current.kill()  # it has ended: this only reaps it
            async with self._turn:
                self._retired = [old for old in self._retired if old.running]
                if current is not self._process:
                    continue
                log.warning("HAProxy (pid %d) ended; starting another", current.pid)
                try:
                    await self._start()
                except IngressError as failure:
                    log.exception("HAProxy cannot be restarted: %s", failure.traceback)
                    await asyncio.sleep(1.0)

    async def _listen(self) -> None:
        """Read what requests came to."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SOON_S if self._requests.ended else POLL_S):
                    await self._heard.wait()
                    self._heard.clear()
            if (runtime := self._runtime) is not None and self._endpoints:
                with contextlib.suppress(IngressError):  # it is being replaced
                    self._requests.read(await runtime.ask(("show", "events", "requests")))

    def _processes(self) -> list[Process]:
        return [p for p in (self._process, *self._retired) if p is not None]

    def _unlink_sockets(self) -> None:
        sockets = self._settings.socket_dir
        for socket in (sockets / "again.sock", *sockets.glob("haproxy-*.sock")):
            socket.unlink(missing_ok=True)

    def _containers(self) -> list[str]:
        return [name for pool in self._pools.values() for name in pool.servers]

    @property
    def _runtime(self) -> Runtime | None:
        """Of the process that accepts requests; None while there is none: `_start` tells it all."""
        process = self._process
        return Runtime(str(process.control)) if process and process.running else None

    async def _tell(self, commands: list[Command]) -> None:
        if (runtime := self._runtime) is None:
            return
        try:
            await runtime.tell(commands)
        except IngressError:
            if self._runtime is not None:  # it has not just been killed
                raise

    async def _publish(self) -> None:
        """Carry out what has changed in the maps; before `start` and after `close` nobody hears."""
        if self._directory.exists():
            await self._tell(self._maps.take())

    async def _has_queue(self, pool: Backend) -> bool:
        runtime = self._runtime
        return runtime is not None and any(
            row.queued for row in await runtime.stats([pool.backend])
        )

    def _lead(self, key: PoolKey, pool: Backend) -> None:
        for spelling in (pool_text(str(key)), *pool.aliases):
            self._maps.put("backends", spelling, pool.backend)

    def _lead_away(self, key: PoolKey, pool: Backend) -> None:
        for spelling in (pool_text(str(key)), *pool.aliases):
            if self._maps.get("backends", spelling) is not None:
                self._maps.put("backends", spelling, None)


def _state(backend: str, server: str, state: str) -> Command:
    return ("set", "server", f"{backend}/{server}", "state", state)


def _quoted(text: str) -> str:
    return urllib.parse.quote(text, safe="")
