"""Gives the ports that containers forward (`modal.forward`) a URL, and takes it away.

A node reports a container's tunnels as a part of its state. Each is an endpoint of the ingress with a pool of
its own, in which the socket of the tunnel is the only server. Nothing of it is kept: a later server knows no
tunnel of an earlier one, and its ingress forgets their URLs.
"""

import asyncio
import hashlib
import logging
from collections.abc import Callable
from dataclasses import field

from homeport.contract.api.tunnels import TunnelInfo
from homeport.contract.container import Container, OpenTunnel, State
from homeport.contract.dataclass import dataclass
from homeport.contract.errors import Failure, NotFound, StartError, TooMany
from homeport.contract.roles import Ingress
from homeport.contract.scope import Scope
from homeport.contract.traffic import Endpoint, PoolKey
from homeport.control.fleet.covering import Covering, Uncovered
from homeport.state import shares
from homeport.supervised import Tasks, retried

#: Of all containers; one of several workspaces has half of them at most (state/shares).
MAX_TUNNELS = 100
SLOTS = 100  # connections at once to one tunnel
TIMEOUT_S = 86400.0  # of a request
WAIT_S = 10.0  # how long a container waits for its URL
PAUSE_S = 0.05
ENDED = (State.GONE, State.FAILED, State.LOST)

log = logging.getLogger(__name__)

#: A tunnel's environment, and the name that its container has given it: so no container can name one of another
#: environment.
_Key = tuple[Scope, str]


@dataclass(slots=True)
class _Route:
    """A tunnel on its way into the ingress, or in it."""

    container: str
    within: Scope
    app: str
    function: str
    tunnel: OpenTunnel
    opened: asyncio.Event = field(default_factory=asyncio.Event)  # set after a failure, too
    failure: Failure | None = None  # why it has no URL

    @property
    def label(self) -> str:
        """The first label of its URL, which is the name of its endpoint and of its server too.

        A hash, so that no container can have the URL of another one's tunnel, and knowing the URL is not enough to
        close the tunnel.
        """
        text = f"{self.container}/{self.tunnel.name}"
        return f"tunnel-{hashlib.sha256(text.encode()).hexdigest()[:20]}"

    @property
    def key(self) -> PoolKey:
        """The pool in which its socket is the only server."""
        return PoolKey(self.app, self.function, self.label)


class Tunnels:
    """The tunnels of all containers."""

    def __init__(
        self,
        ingress: Ingress,
        domain: str,
        address: Callable[[], tuple[str, int]],
        certificates: Covering | None = None,
        alone: Callable[[], bool] = lambda: True,
    ) -> None:
        """`address` returns scheme and port of all URLs; the port is known once the ingress listens.

        `certificates` get a tunnel's host before it answers. `alone` returns whether the server has one workspace.
        """
        self._alone = alone
        self._certificates = certificates or Uncovered()
        self._ingress, self._domain, self._address = ingress, domain, address
        self._routes: dict[_Key, _Route] = {}
        self._closed: dict[
            _Key, str
        ] = {}  # tunnel -> its container, until its node has heard of it
        self._news = asyncio.Event()  # set, and replaced, at each new tunnel
        self._tasks = Tasks()

    def changed(self, container: Container) -> None:
        """Open and close tunnels as the container's node reports them; ends with the container."""
        open_tunnels = () if container.state in ENDED else container.tunnels
        within = container.order.within
        keys = {(within, tunnel.name): tunnel for tunnel in open_tunnels}
        for key, route in [*self._routes.items()]:
            if route.container == container.id and key not in keys:
                self._begin_closing(key)
        for key, owner in [*self._closed.items()]:
            if owner == container.id and key not in keys:
                del self._closed[key]
        for key, tunnel in keys.items():
            if key not in self._routes and key not in self._closed:
                self._begin(key, container, tunnel)

    async def opened(self, within: Scope, name: str) -> TunnelInfo:
        """Return the URL of an environment's tunnel once it answers."""
        try:
            async with asyncio.timeout(WAIT_S):
                while (route := self._routes.get((within, name))) is None:
                    await self._news.wait()
                await route.opened.wait()
        except TimeoutError:
            raise NotFound("the container's node does not know this tunnel") from None
        if route.failure is not None:
            raise route.failure
        scheme, port = self._address()
        return TunnelInfo(scheme=scheme, host=self._host(route), port=port)

    async def close(self, within: Scope, name: str) -> None:
        """Remove the URL of an environment's tunnel; return when it is removed."""
        key = (within, name)
        route = self._routes.get(key)
        if route is None:
            raise NotFound("there is no such tunnel")
        self._closed[key] = route.container
        await asyncio.shield(self._begin_closing(key))

    def hosts(self) -> list[str]:
        """Return the hosts of all tunnels that open or are open."""
        return [self._host(route) for route in self._routes.values() if route.failure is None]

    async def end(self) -> None:
        """Stop opening and closing: the ingress ends."""
        await self._tasks.close()

    def _begin(self, key: _Key, container: Container, tunnel: OpenTunnel) -> None:
        pool, within = container.order.pool, container.order.within
        # One that was refused takes no place.
        open_ = [
            route_.within.workspace for route_ in self._routes.values() if route_.failure is None
        ]
        own_count = open_.count(within.workspace)
        route = _Route(container.id, within, pool.app, pool.function, tunnel)
        self._routes[key] = route
        if not shares.may_take(
            1, own=own_count, of_all=len(open_), most=MAX_TUNNELS, alone=self._alone()
        ):
            count_in_words = (
                f"{MAX_TUNNELS} tunnels"
                if self._alone()
                else f"{own_count} tunnels of this workspace"
            )
            route.failure = TooMany(f"{count_in_words} are open, and there can be no more")
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

    def _begin_closing(self, key: _Key) -> asyncio.Future[None]:
        """Start to close a tunnel; return a future that is done when its URL is removed."""
        route = self._routes.pop(key)
        closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def close() -> None:
            await route.opened.wait()
            await retried(f"closing {route.label}", unrouted)

        async def unrouted() -> None:
            await self._ingress.unroute(route.label)
            if not closed.done():
                closed.set_result(None)
            self._certificates.wake()
            await self._ingress.lose(route.key, route.label)
            while await self._ingress.detach(route.key, route.label) is None:
                await asyncio.sleep(PAUSE_S)
            await self._ingress.drop(route.key)

        self._tasks.start(f"closing {route.label}", close())
        return closed

    def _host(self, route: _Route) -> str:
        return f"{route.label}.{self._domain}"
