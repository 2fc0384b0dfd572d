"""The Ingress role by HAProxy: endpoints in maps, pools in interchangeable backends.

What HAProxy has to know is known here first: a change alters the picture in memory, then tells the running
process. If that fails, the supervisor starts another process with the picture as it is now; if that fails as
well, the picture is what it was, and the caller gets the error. So a change happens whole or not at all.
"""

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from homeport.contract.errors import IngressError, PortTaken
from homeport.contract.traffic import Endpoint, Load, PoolKey, RequestRecord
from homeport.ingress import backends, config, process, rules
from homeport.ingress.backends import Backend, Supply
from homeport.ingress.config import SHARED, UNSHARED, Server
from homeport.ingress.maps import Maps
from homeport.ingress.picture import Picture, state
from homeport.ingress.ports import Ports
from homeport.ingress.requests import POLL_S, SOON_S, Requests
from homeport.ingress.runtime import Command, Row, Runtime, sessions
from homeport.ingress.supervisor import Supervisor
from homeport.settings import Settings
from homeport.supervised import Tasks, supervised
from homeport.undo import Undo, unbroken

FIRST_PORTS = 16
LOW_PORTS = 4  # fewer than that left: double the supply
# A request that looked its pool up just before the last server drained has arrived by then.
SETTLE_S = 0.05

T = TypeVar("T")
log = logging.getLogger(__name__)


class HAProxy:
    """HAProxy, and nobody else knows it."""

    def __init__(self, settings: Settings, *, tied: bool, ports: Iterable[int] = ()) -> None:
        self.http_port = 0
        self._settings = settings
        self._known_ports = list(ports)
        self._ports = Ports(settings.host)
        self._tied = tied
        self._maps = Maps(settings.run_dir / "ingress")
        self._picture = Picture(self._maps)
        self._supervisor = Supervisor(
            settings,
            self._maps,
            tied=tied,
            describe=self._describe,
            first=self._picture.first,
            begun=self._begun,
            containers=self._picture.containers,
        )
        self.took_over = False  # an earlier server's processes
        self._requests = Requests()
        self._heard = asyncio.Event()  # somebody wants to hear of each request from now on
        self._tasks = Tasks()

    @property
    def pid(self) -> int:
        """Of the process that accepts requests; 0 while there is none."""
        return self._supervisor.pid

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
        self._supervisor.binary = await asyncio.to_thread(process.find, self._settings.haproxy)
        await asyncio.to_thread(self._take_over)
        try:
            if not self.took_over:
                self._ports.keep(self._known_ports)
            self._ports.supply(max(0, FIRST_PORTS - self._ports.free))
            (self._supervisor.directory / "port").write_text(f"{self.http_port}")
        except BaseException:
            self._ports.close()
            raise

    async def start(self) -> None:
        """Start answering; a process that an earlier server left hands over."""
        self._picture.forget_stale()
        await self._supervisor.open()
        self._tasks.start("haproxy requests", supervised("haproxy requests", self._listen))

    async def close(self) -> None:
        """Stop answering and leave nothing behind."""
        await self._tasks.close()
        await self._supervisor.close()
        self._ports.close()

    async def route(self, endpoint: Endpoint) -> None:
        """Make the endpoint answer from its pool."""

        async def change(undo: Undo) -> None:
            if (port := endpoint.local_port) is not None:
                await self._claim(port, undo)
            before = self._picture.put_endpoint(endpoint, undo)
            await self._supervisor.tell(self._maps.commands())
            if before is not None and before.local_port not in (None, port):
                self._ports.give_back(before.local_port)

        await self._whole(f"route {endpoint.id}", change)

    async def unroute(self, endpoint_id: str) -> None:
        """The endpoint's hosts and port are unknown from now on."""

        async def change(undo: Undo) -> None:
            endpoint = self._picture.remove_endpoint(endpoint_id, undo)
            if endpoint is None:
                return
            await self._supervisor.tell(self._maps.commands())
            self._requests.forget(endpoint_id)
            if endpoint.local_port is not None:
                self._ports.give_back(endpoint.local_port)

        await self._whole(f"unroute {endpoint_id}", change)

    async def attach(
        self, pool: PoolKey, container: str, address: str, slots: int, *, shared: bool = True
    ) -> None:
        """Let the pool's requests into a container."""

        async def change(undo: Undo) -> None:
            known = await self._pool(pool, SHARED if shared else UNSHARED, undo)
            there = address.replace("unix:", "unix@", 1).replace("abstract:", "abns@", 1)
            server = Server(name=container, address=there, slots=slots)
            where = f"{known.backend}/{container}"
            leaving = [s for s in known.servers.values() if s.draining]
            self._picture.put_server(known, server, undo)
            self._picture.lead(pool, known)
            await self._supervisor.tell(
                [
                    ("add", "server", where, *config.server_words(server)),
                    ("enable", "server", where),
                    ("enable", "health", where),
                    # The last one to drain still counted as usable; now it need not.
                    *(state(known, s.name, "drain") for s in leaving),
                    *self._maps.commands(),
                ]
            )
            self._requests.expect(container)

        await self._whole(f"attach {container}", change)

    async def hold(self, pool: PoolKey, container: str, held: int) -> None:
        """Keep slots of a container back; a container that has none left gets no new request."""

        async def change(undo: Undo) -> None:
            known = self._picture.pools.get(pool)
            if known is None or (server := known.servers.get(container)) is None:
                return
            after = dataclasses.replace(server, held=min(max(held, 0), server.slots))
            if after == server:
                return
            self._picture.put_server(known, after, undo)
            if after.full:
                await self._shut(pool, known, container)
                return
            where = f"{known.backend}/{container}"
            commands: list[Command] = [
                ("set", "maxconn", "server", where, str(after.slots - after.held))
            ]
            if server.full and not server.draining:
                commands.append(state(known, container, "ready"))
            if after.open:
                self._picture.lead(pool, known)
            await self._supervisor.tell([*commands, *self._maps.commands()])

        await self._whole(f"hold {container}", change)

    async def cut(self, pool: PoolKey, container: str, age_s: float) -> None:
        """End the requests in a container that began longer ago than that."""
        if (runtime := self._supervisor.runtime) is None or pool not in self._picture.pools:
            return
        for session in sessions(await runtime.ask(("show", "sess"))):
            if session.server == container and session.age_s >= age_s:
                await runtime.ask(("shutdown", "session", session.id))

    async def drain(self, pool: PoolKey, container: str) -> None:
        """Send it no new request; those inside, and those queued for it, go on."""

        async def change(undo: Undo) -> None:
            known = self._picture.pools.get(pool)
            if known is None or (server := known.servers.get(container)) is None:
                return
            self._picture.put_server(known, dataclasses.replace(server, draining=True), undo)
            known.settled_at[container] = time.monotonic() + SETTLE_S
            if server.full:
                return  # it gets nothing new already
            if known.open:
                await self._supervisor.tell([state(known, container, "drain")])
                return
            # HAProxy fails a queue at once when its last server drains: so new requests are led
            # away from the backend instead, to park, and the server works its queue off.
            self._picture.lead_away(pool, known)
            await self._supervisor.tell(self._maps.commands())

        await self._whole(f"drain {container}", change)

    async def lose(self, pool: PoolKey, container: str) -> None:
        """A container has ended: let nobody in any more; who is queued for it comes in again."""

        async def change(undo: Undo) -> None:
            known = self._picture.pools.get(pool)
            if known is None or (server := known.servers.get(container)) is None:
                return
            self._picture.put_server(known, dataclasses.replace(server, draining=True), undo)
            await self._shut(pool, known, container)

        await self._whole(f"lose {container}", change)

    async def detach(self, pool: PoolKey, container: str) -> bool:
        """Forget a container; False while a connection to it is open: ask again."""

        async def change(undo: Undo) -> bool:
            known = self._picture.pools.get(pool)
            if known is None or (server := known.servers.get(container)) is None:
                return True
            if time.monotonic() < known.settled_at.get(container, 0.0):
                return False
            others = [s for s in known.servers.values() if s.name != container and s.open]
            if not others and await self._has_queue(known):
                return False
            self._picture.put_server(known, dataclasses.replace(server, draining=True), undo)
            if not others:
                self._picture.lead_away(pool, known)
            await self._supervisor.tell([*self._maps.commands(), state(known, container, "maint")])
            self._maps.commit()
            undo.keep()  # what comes now may fail, and is asked for again
            if (runtime := self._supervisor.runtime) is not None:
                where = f"{known.backend}/{container}"
                answer = (await runtime.ask(("del", "server", where))).strip()
                if "still has" in answer or "idle" in answer:
                    return False
            del known.servers[container]
            known.settled_at.pop(container, None)
            self._requests.expect_no_more(container)
            return True

        return await self._whole(f"detach {container}", change)

    async def drop(self, pool: PoolKey) -> None:
        """Forget a pool that has no container and no endpoint."""

        async def change(undo: Undo) -> None:
            known = self._picture.pools.get(pool)
            if known is None or known.servers:
                return
            self._picture.remove_pool(pool, undo)
            await self._supervisor.tell(self._maps.commands())

        await self._whole(f"drop {pool}", change)

    async def load(self, pools: Collection[PoolKey]) -> dict[PoolKey, Load]:
        """What these pools are doing now; what they did last while HAProxy does not say."""
        known = {key: self._picture.pools[key] for key in pools if key in self._picture.pools}
        runtime = self._supervisor.runtime
        rows: dict[str, list[Row]] = {pool.backend: [] for pool in known.values()}
        try:
            told = await runtime.stats(list(rows)) if runtime is not None else None
        except IngressError as error:
            log.warning("the load is not known: %s", error)
            told = None
        if told is None:
            return {key: pool.last for key, pool in known.items()}
        for row in told:
            rows[row.backend].append(row)
        unknown = self._supervisor.suspects()
        return {
            key: backends.load(pool, rows[pool.backend], unknown) for key, pool in known.items()
        }

    def quantiles_ms(self, endpoint_id: str) -> tuple[int, int] | None:
        """The median and the 99th percentile of the endpoint's recent requests."""
        return self._requests.quantiles_ms(endpoint_id)

    async def alias(self, key: str, pool: PoolKey) -> None:
        """Send requests whose pool reads `key` to `pool`."""

        async def change(undo: Undo) -> None:
            self._picture.add_alias(key, pool, undo)
            await self._supervisor.tell(self._maps.commands())

        await self._whole(f"alias of {pool}", change)

    async def tokens(self, hashes: Mapping[str, str]) -> None:
        """The proxy tokens that are valid from now on."""

        async def change(_undo: Undo) -> None:
            self._picture.put_tokens(hashes)
            await self._supervisor.tell(self._maps.commands())

        await self._whole("tokens", change)

    async def free_port(self) -> int:
        """A local port that no endpoint has."""

        async def change(_undo: Undo) -> int:
            if self._ports.free <= LOW_PORTS:
                await self._more_ports()
            return self._ports.take()

        return await self._whole("local port", change)

    async def _whole(self, name: str, change: Callable[[Undo], Awaitable[T]]) -> T:
        """One change at a time, to its end, and without a trace if it fails."""

        async def work() -> T:
            async with self._supervisor.turn, Undo(name) as undo:
                await self._supervisor.mend()
                undo.push(self._maps.revert)
                result = await change(undo)
                self._maps.commit()
                self._save()
                return result

        return await unbroken(work())

    def _save(self) -> None:
        # A full disk must not stop a deploy: `_listen` tries again.
        with contextlib.suppress(OSError):
            self._maps.save()

    async def _claim(self, port: int, undo: Undo) -> None:
        """Have a port for an endpoint, if it can be had at all."""
        if self._ports.claim(port):
            if all(e.local_port != port for e in self._picture.endpoints.values()):
                undo.push(self._ports.give_back, port)
            return
        self._ports.keep([port])
        if self._ports.claim(port):
            undo.push(self._ports.let_go, [port])
            await self._supervisor.reload()

    async def _more_ports(self) -> None:
        async with Undo("more local ports") as undo:
            more = self._ports.supply(max(self._ports.count, 1))
            undo.push(self._ports.let_go, more)
            try:
                await self._supervisor.reload()
            except IngressError:
                if self._ports.free <= len(more):
                    raise
                await undo.run()  # there are some left, and the next one tries again

    async def _pool(self, pool: PoolKey, kind: str, undo: Undo) -> Backend:
        known = self._picture.pools.get(pool) or self._picture.reclaim(pool, kind, undo)
        if known is not None:
            return known
        if (supply := self._picture.supplies[kind]).low:
            await self._more_backends(supply)
        return self._picture.add_pool(pool, kind, undo)

    async def _more_backends(self, supply: Supply) -> None:
        async with Undo("more backends") as undo:
            undo.push(supply.halve)
            supply.double()
            try:
                await self._supervisor.reload()
            except IngressError as failure:
                await undo.run()
                if not supply.free:
                    raise
                log.error("HAProxy cannot have more backends: %s", failure)  # noqa: TRY400

    async def _shut(self, pool: PoolKey, known: Backend, container: str) -> None:
        """Let nobody into a container any more; who is queued looks again if there is no other."""
        at_once = [state(known, container, "maint")]
        if not known.open:
            self._picture.lead_away(pool, known)
            # HAProxy hands a backend's queue to a server that comes up, and to nobody else.
            at_once += [
                state(known, rules.AGAIN_FOR_QUEUE, wanted) for wanted in ("maint", "ready")
            ]
        await self._supervisor.tell(self._maps.commands(), at_once)

    def _take_over(self) -> None:
        """Go on where an earlier server ended; else an empty directory and no process of its."""
        old, wanted = self._supervisor.take_over(), self._settings.http_port
        port = _number(self._supervisor.directory / "port") if old else 0
        if port and not self._tied and wanted in (0, port):
            self.http_port = self._ports.adopt(old[0].listeners(), port)
        if self.http_port:
            self.took_over = True
            self._supervisor.adopt(old)
            self._picture.load()
            return
        # An address that somebody else has, or that cannot be, leaves what answers now alone.
        try:
            self.http_port = self._ports.open(wanted)
        except PortTaken:
            if wanted != port:
                raise
        for each in old:
            each.kill()
        self._supervisor.clear()
        if not self.http_port:
            self.http_port = self._ports.open(wanted)

    def _describe(self, control: str) -> config.Config:
        """What a new process begins with."""
        settings = self._settings
        return config.Config(
            control=control,
            again=str(settings.socket_dir / "again.sock"),
            api=str(settings.control_socket),
            listeners=self._ports.descriptors,
            requests_per_s=settings.requests_per_s,
            per_source=of_one_source(settings),
            max_connections=process.max_connections(),
            trusted_proxies=tuple(filter(None, settings.trusted_proxies.split(","))),
            own_hosts=tuple(
                dict.fromkeys(
                    ("localhost", "127.0.0.1", "[::1]", settings.local_host, settings.domain)
                )
            ),
            domain=settings.domain,
            backends={prefix: supply.count for prefix, supply in self._picture.supplies.items()},
            servers={p.backend: tuple(p.servers.values()) for p in self._picture.pools.values()},
        )

    def _begun(self) -> None:
        self._requests.restart()

    async def _listen(self) -> None:
        """Read what requests came to, and save what a full disk did not take."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SOON_S if self._requests.ended else POLL_S):
                    await self._heard.wait()
                    self._heard.clear()
            self._save()
            runtime: Runtime | None = self._supervisor.runtime
            if runtime is not None and self._picture.endpoints:
                with contextlib.suppress(IngressError):  # it is being replaced
                    self._requests.read(await runtime.ask(("show", "events", "requests")))

    async def _has_queue(self, pool: Backend) -> bool:
        runtime = self._supervisor.runtime
        return runtime is not None and any(
            row.queued for row in await runtime.stats([pool.backend])
        )


def _number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0


def of_one_source(settings: Settings) -> int:
    """How many requests one address may have at once; 0: as many as it likes, for it is ours."""
    return 0 if settings.on_loopback else max(process.max_connections() // 4, 100)
