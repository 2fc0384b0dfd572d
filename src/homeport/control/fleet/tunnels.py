"""Gives the ports that containers forward (`modal.forward`) a URL, and takes it away.

A node reports a container's tunnels as a part of its state. Each is an endpoint of the ingress with a pool of
its own, in which the socket of the tunnel is the only server. Nothing of it is kept: a later server knows no
tunnel of an earlier one, and its ingress forgets their URLs.
"""

import asyncio
import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field

from homeport.contract.api.tunnels import TunnelInfo
from homeport.contract.container import Container, OpenTunnel, State
from homeport.contract.errors import Failure, NotFound, StartError, TooMany
from homeport.contract.roles import Ingress
from homeport.contract.traffic import Endpoint, PoolKey
from homeport.control.fleet.covering import Covering, Uncovered
from homeport.supervised import Tasks, retried

MAX_TUNNELS = 100  # of all containers
SLOTS = 100  # connections at once to one tunnel
TIMEOUT_S = 86400.0  # of a request
WAIT_S = 10.0  # how long a container waits for its URL
PAUSE_S = 0.05
ENDED = (State.GONE, State.FAILED, State.LOST)

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Route:
    """A tunnel on its way into the ingress, or in it."""

    container: str
    tunnel: OpenTunnel
    key: PoolKey
    opened: asyncio.Event = field(default_factory=asyncio.Event)  # set after a failure, too
    failure: Failure | None = None  # why it has no URL

    @property
    def label(self) -> str:
        """The first label of its URL, which is the name of its endpoint and of its server too.

        A hash, so that no container can have the URL of another one's tunnel, and nobody who knows the URL can
        close the tunnel.
        """
        told = f"{self.container}/{self.tunnel.name}"
        return f"tunnel-{hashlib.sha256(told.encode()).hexdigest()[:20]}"


class Tunnels:
    """The tunnels of all containers."""

    def __init__(
        self,
        ingress: Ingress,
        domain: str,
        address: Callable[[], tuple[str, int]],
        certificates: Covering | None = None,
    ) -> None:
        """`address` returns scheme and port of all URLs; the port is known once the ingress listens.

        `certificates` get a tunnel's host before it answers.
        """
        self._certificates = certificates or Uncovered()
        self._ingress, self._domain, self._address = ingress, domain, address
        self._routes: dict[str, _Route] = {}
        self._closed: dict[str, str] = {}  # tunnel -> its container, until its node has heard of it
        self._news = asyncio.Event()  # set, and replaced, at each new tunnel
        self._tasks = Tasks()

    def changed(self, container: Container) -> None:
        """Open and close tunnels as the container's node reports them; ends with the container."""
        wanted = () if container.state in ENDED else container.tunnels
        names = {tunnel.name for tunnel in wanted}
        for name, route in [*self._routes.items()]:
            if route.container == container.id and name not in names:
                self._begin_closing(name)
        for name, owner in [*self._closed.items()]:
            if owner == container.id and name not in names:
                del self._closed[name]
        for tunnel in wanted:
            if tunnel.name not in self._routes and tunnel.name not in self._closed:
                self._begin(container, tunnel)

    async def opened(self, name: str) -> TunnelInfo:
        """Return a tunnel's URL once it answers."""
        try:
            async with asyncio.timeout(WAIT_S):
                while (route := self._routes.get(name)) is None:
                    await self._news.wait()
                await route.opened.wait()
        except TimeoutError:
            raise NotFound("the container's node does not know this tunnel") from None
        if route.failure is not None:
            raise route.failure
        scheme, port = self._address()
        return TunnelInfo(scheme=scheme, host=self._host(route), port=port)

    async def close(self, name: str) -> None:
        """Take a tunnel's URL away; return when it is gone."""
        route = self._routes.get(name)
        if route is None:
            raise NotFound("there is no such tunnel")
        self._closed[name] = route.container
        await asyncio.shield(self._begin_closing(name))

    def hosts(self) -> list[str]:
        """Return the hosts of all tunnels that open or are open."""
        return [self._host(route) for route in self._routes.values() if route.failure is None]

    async def end(self) -> None:
        """Stop opening and closing: the ingress ends."""
        await self._tasks.close()

    def _begin(self, container: Container, tunnel: OpenTunnel) -> None:
        pool = container.order.pool
        key = PoolKey(pool.app, pool.function, f"tunnel-{tunnel.name}")
        route = self._routes[tunnel.name] = _Route(container.id, tunnel, key)
        if len(self._routes) > MAX_TUNNELS:
            route.failure = TooMany(f"{MAX_TUNNELS} tunnels are open, and there can be no more")
            route.opened.set()
        else:
            self._tasks.start(f"opening {route.label}", self._open(route))
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def _open(self, route: _Route) -> None:
        try:
            await self._ingress.attach(
                route.key, route.label, route.tunnel.address, SLOTS, shared=False
            )
            await self._certificates.cover([self._host(route)])
            await self._ingress.route(
                Endpoint(
                    id=route.label,
                    hosts=(self._host(route),),
                    pool=route.key,
                    timeout_s=TIMEOUT_S,
                )
            )
        except Exception as error:
            log.exception("cannot open %s", route.label)
            route.failure = StartError(f"the ingress did not take the tunnel: {error}")
        finally:
            route.opened.set()

    def _begin_closing(self, name: str) -> asyncio.Future[None]:
        """Start to close a tunnel; return a future that is done when its URL is gone."""
        route = self._routes.pop(name)
        gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def close() -> None:
            await route.opened.wait()
            await retried(f"closing {route.label}", unrouted)

        async def unrouted() -> None:
            await self._ingress.unroute(route.label)
            if not gone.done():
                gone.set_result(None)
            self._certificates.wake()
            await self._ingress.lose(route.key, route.label)
            while await self._ingress.detach(route.key, route.label) is None:
                await asyncio.sleep(PAUSE_S)
            await self._ingress.drop(route.key)

        self._tasks.start(f"closing {route.label}", close())
        return gone

    def _host(self, route: _Route) -> str:
        return f"{route.label}.{self._domain}"
