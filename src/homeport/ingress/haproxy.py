"""The Ingress role by HAProxy: endpoints, local ports, tokens, and the start and end of the ingress.

`control/main` makes one. An endpoint is rows in HAProxy's maps; a pool has one of the interchangeable
backends. `publisher` carries out each change whole or not at all; `containers` has the changes of a pool.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from homeport.contract.errors import IngressError, PortTaken
from homeport.contract.rates import Rate
from homeport.contract.traffic import Endpoint, Pass, PoolKey, RequestRecord, Split
from homeport.ingress import config, guards, process
from homeport.ingress.certificates import Certificates
from homeport.ingress.maps import Maps
from homeport.ingress.peers import Peers
from homeport.ingress.picture import Picture
from homeport.ingress.ports import Ports
from homeport.ingress.requests import POLL_S, SOON_S
from homeport.ingress.ring import Rings
from homeport.ingress.sockets import Doorway
from homeport.ingress.supervisor import Supervisor
from homeport.ingress.tls import Tls
from homeport.settings import PUBLIC, Settings
from homeport.supervised import Tasks, supervised
from homeport.undo import Undo

FIRST_PORTS = 16
FULL_S = 0.02  # between two reads of the log while more is waiting
IDLE_POLL_S = 5.0  # a read without any line, which also saves the maps that a full disk refused
LOW_PORTS = 4  # double the supply when no more free ports than this are left


class HAProxy(Peers, Tls):
    """Implements the Ingress role; nothing outside `ingress/` knows HAProxy.

    Over 250 lines with `containers` and `peers`, because it is the role: each method is one change that users can cause.
    """

    def __init__(self, settings: Settings, *, tied: bool, ports: Iterable[int] = ()) -> None:
        maps = Maps(settings.run_dir / "ingress")
        picture = Picture(maps)
        self._certificates = Certificates(settings.certificates_dir, maps)
        self._secure = settings.tls != "off"
        self._is_public = not settings.on_loopback
        supervisor = Supervisor(
            settings,
            maps,
            tied=tied,
            describe=self._describe,
            first=picture.first,
            on_begun=self._process_begun,
            listed=self._listed,
            containers=picture.containers,
        )
        super().__init__(maps, picture, supervisor)
        self.http_port = self.https_port = 0  # the second one: 0 without TLS
        self._settings = settings
        self._cluster = settings.home / "cluster"
        self._known_ports = list(ports)
        self._ports = Ports(settings.host)
        self._calls = Doorway(settings.calls_socket)
        self._urls = Doorway(settings.urls_socket)
        self._tied = tied
        self.took_over = False  # True if it continues with an earlier server's sockets and maps
        self._rings = Rings()
        self._heard = asyncio.Event()  # set when a listener for each request is added
        self._tasks = Tasks()

    @property
    def pid(self) -> int:
        """The id of the process that accepts requests; 0 while no process does."""
        return self._supervisor.pid

    def watch(self, answered: Callable[[str, float], None]) -> None:
        """Set the function that is called with each container's first request and its milliseconds."""
        self._requests.answered = answered

    def keep(
        self, lines: Callable[[Sequence[Sequence[str]]], None], seen: Callable[[], Collection[str]]
    ) -> None:
        """Set the function that gets every request that has ended; `seen` returns the ids of those that it has."""
        self._requests.keep, self._rings.seen = lines, seen

    def hear(self, ended: Callable[[RequestRecord], None] | None) -> None:
        """Set the function that is called with each request that has ended; None: no function."""
        self._requests.ended = ended
        if ended is not None:
            self._heard.set()
            self._rings.stir()

    async def open(self) -> None:
        """Listen on the main port and the local ports; take them over from an earlier server if it left any."""
        self._supervisor.binary = await asyncio.to_thread(process.find, self._settings.haproxy)
        await asyncio.to_thread(self._take_over)
        try:
            if not self.took_over:
                self._ports.keep(self._known_ports)
            self._ports.supply(max(0, FIRST_PORTS - self._ports.free))
            self._calls.open()
            self._urls.open()
            (self._supervisor.directory / "port").write_text(f"{self.http_port}")
            await asyncio.to_thread(self._open_secure)
        except BaseException:
            self._ports.close()
            self._calls.close()
            self._urls.close()
            raise

    async def start(self) -> None:
        """Start a HAProxy process; one that an earlier server left finishes its requests and ends."""
        self._picture.forget_stale()
        await self._supervisor.open()
        self._tasks.start("haproxy requests", supervised("haproxy requests", self._listen))

    async def close(self) -> None:
        """End every process and delete their files."""
        await self._tasks.close()
        self._save_now()
        self._read()
        self._rings.close()
        await self._supervisor.close()
        self._ports.close()
        self._calls.close()
        self._urls.close()

    async def route(self, endpoint: Endpoint) -> None:
        """Send the endpoint's requests to its pool from now on."""

        async def change(undo: Undo) -> None:
            if (port := endpoint.local_port) is not None:
                await self._claim(port, undo)
            before = self._picture.put_endpoint(endpoint, undo)
            await self._supervisor.tell(self._maps.commands())
            if before is not None and before.local_port not in (None, port):
                self._ports.give_back(before.local_port)

        await self._whole(f"route {endpoint.id}", change)

    async def unroute(self, endpoint_id: str) -> None:
        """Forget the endpoint: requests to its hosts get 404, and its port is free."""

        async def change(undo: Undo) -> None:
            endpoint = self._picture.remove_endpoint(endpoint_id, undo)
            if endpoint is None:
                return
            await self._supervisor.tell(self._maps.commands())
            self._requests.forget(endpoint_id)
            if endpoint.local_port is not None:
                self._ports.give_back(endpoint.local_port)

        await self._whole(f"unroute {endpoint_id}", change)

    async def drop(self, pool: PoolKey) -> None:
        """Forget a pool that has no containers and no endpoint; do nothing if it has containers."""

        async def change(undo: Undo) -> None:
            backend = self._picture.pools.get(pool)
            if backend is None or backend.servers:
                return
            self._picture.remove_pool(pool, undo)
            await self._supervisor.tell(self._maps.commands())

        await self._whole(f"drop {pool}", change)

    def quantiles_ms(self, endpoint_id: str) -> tuple[int, int] | None:
        """Return the median and the 99th percentile of the endpoint's recent requests; None if it had none."""
        return self._requests.quantiles_ms(endpoint_id)

    async def alias(self, key: str, pool: PoolKey) -> None:
        """Send requests whose class parameters are spelled as in `key` to `pool`."""

        async def change(undo: Undo) -> None:
            self._picture.add_alias(key, pool, undo)
            await self._supervisor.tell(self._maps.commands())

        await self._whole(f"alias of {pool}", change)

    async def tokens(self, valid: Mapping[str, Pass]) -> None:
        """Replace the valid proxy tokens, by their ids."""

        async def change(_undo: Undo) -> None:
            self._picture.put_tokens(valid)
            await self._supervisor.tell(self._maps.commands())

        await self._whole("tokens", change)

    async def tokens_used(self) -> dict[str, float]:
        """Return how many seconds ago tokens were last used, as the running process remembers it."""
        runtime = self._supervisor.runtime
        if runtime is None:
            return {}
        return guards.used(
            await runtime.ask(*(("show", "table", table) for table in guards.TABLES.values()))
        )

    async def rates(self, limits: Mapping[str, Rate]) -> None:
        """Replace the rate limits of endpoints."""

        async def change(undo: Undo) -> None:
            self._picture.put_rates(limits, undo)
            await self._supervisor.tell(self._maps.commands())

        await self._whole("rates", change)

    async def capture(self, endpoint_id: str, order: str | None) -> None:
        """Tell the containers to capture the requests to an endpoint; None: no more."""

        async def change(undo: Undo) -> None:
            self._picture.put_capture(endpoint_id, order, undo)
            await self._supervisor.tell(self._maps.commands())

        await self._whole(f"capture of {endpoint_id}", change)

    async def split(self, endpoint_id: str, part: Split | None) -> None:
        """Lead a part of the requests to an endpoint to another one; None: no more."""

        async def change(undo: Undo) -> None:
            self._picture.put_split(endpoint_id, part, undo)
            await self._supervisor.tell(self._maps.commands())

        await self._whole(f"split of {endpoint_id}", change)

    async def free_port(self) -> int:
        """Reserve and return a local port that no endpoint has."""

        async def change(_undo: Undo) -> int:
            if self._ports.free <= LOW_PORTS:
                await self._more_ports()
            return self._ports.take()

        return await self._whole("local port", change)

    async def _claim(self, port: int, undo: Undo) -> None:
        """Reserve this port for an endpoint, if no other endpoint or program has it."""
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
                await undo.run()  # some ports are left, and the next endpoint tries again

    def _take_over(self) -> None:
        """Take over an earlier server's sockets and maps; if that is impossible, end its processes."""
        old, wanted_port = self._supervisor.take_over(), self._settings.http_port
        port = _number(self._supervisor.directory / "port") if old else 0
        if port and not self._tied and wanted_port in (0, port):
            self.http_port = self._ports.adopt(old[0].listeners(), port, self._before())
        if self.http_port:
            self.took_over = True
            self._supervisor.adopt(old)
            self._rings.adopt(haproxy.control for haproxy in old)
            self._picture.load()
            return
        # Open the new port before the old processes are killed: if that fails, they keep answering.
        try:
            self.http_port = self._ports.open(wanted_port)
        except PortTaken:
            if wanted_port != port:
                raise
        for haproxy in old:
            haproxy.kill()
        self._supervisor.clear()
        if not self.http_port:
            self.http_port = self._ports.open(wanted_port)

    def _open_secure(self) -> None:
        """Listen for HTTPS, at the earlier server's port if it may be any."""
        file = self._supervisor.directory / "https-port"
        if not self._secure:
            self._ports.let_go([_number(file)])  # no endpoint may get it
            file.unlink(missing_ok=True)
            return
        self._certificates.load()
        before = _number(file) if self.took_over else 0
        wanted_port = self._settings.https_port
        if before and wanted_port not in (0, before):
            self._ports.let_go([before])
        self.https_port = self._ports.open_secure(wanted_port or before)
        file.write_text(f"{self.https_port}")

    def _listed(self, directory: Path) -> str:
        """Return the list of certificates for a process with this working directory."""
        self._link(directory)
        if self._secure:
            self._certificates.link(directory)
        return self._certificates.listed()

    def _describe(self, control: str) -> config.Config:
        """Return the configuration for a new process whose Runtime API listens at `control`."""
        settings = self._settings
        return config.Config(
            control=control,
            again=str(settings.socket_dir / "again.sock"),
            api=str(settings.control_socket),
            inside=str(settings.inside_socket),
            remote=str(settings.remote_socket),
            listeners=self._ports.descriptors,
            secure=self._ports.secure,
            https_port=self.https_port,
            lasting=settings.tls in PUBLIC,
            calls=self._calls.descriptor,
            urls=self._urls.descriptor,
            nodes=self._ports.of_nodes if self._admits else None,
            nodes_calls=str(settings.socket_dir / "nodes.sock"),
            urls_socket=str(settings.urls_socket),
            visitors=self._visitors(),
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
            preflights=settings.cors_preflights == "pass",
            queries=settings.records("queries"),
            addresses=settings.records("addresses"),
            traced=settings.trace_share if settings.tracing != "off" else None,
            backends={prefix: supply.count for prefix, supply in self._picture.supplies.items()},
            servers={p.backend: tuple(p.servers.values()) for p in self._picture.pools.values()},
            peers=self._picture.peers,
        )

    def _visitors(self) -> dict[str, str]:
        """Return the sockets for visitors who come in at other machines; none if visitors come from this one alone."""
        if not (self._admits and self._is_public):
            return {}
        from homeport.ingress import entered

        return entered.sockets(str(self._settings.socket_dir), tls=self._secure)

    def _process_begun(self, control: Path) -> None:
        """Another process answers; those before it retire."""
        self._calls.show()
        self._urls.show()
        self._requests.restart()
        self._rings.retire()
        self._rings.follow(control)

    async def _listen(self) -> None:
        """Read the log of requests, and save maps again that a full disk refused."""
        more, is_idle = False, False
        while True:
            if is_idle and self._requests.ended is None and not self._rings.is_retiring:
                await self._rings.stirred(IDLE_POLL_S)
            with contextlib.suppress(TimeoutError):
                soon = self._requests.ended is not None or self._rings.is_retiring
                wait_s = FULL_S if more else SOON_S if soon else POLL_S
                async with asyncio.timeout(wait_s):
                    await self._heard.wait()
                    self._heard.clear()
            if not more:
                self._save()
            more, is_idle = self._read()

    def _read(self) -> tuple[bool, bool]:
        """Read the waiting lines of the log of requests; return whether more are waiting, and whether there were none."""
        lines, more = self._rings.read()
        self._requests.read(lines, more=more)
        return more, not (lines or more)


def _number(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0


def of_one_source(settings: Settings) -> int:
    """Return how many requests one address may have at once; 0: no limit, for only this machine connects."""
    return 0 if settings.on_loopback else max(process.max_connections() // 4, 100)
