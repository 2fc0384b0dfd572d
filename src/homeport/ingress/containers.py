"""Publishes a pool's containers to HAProxy: servers in the backend that the pool has.

`HAProxy` (haproxy.py) inherits these methods of the Ingress role.
"""

import asyncio
import dataclasses
import logging
import math
import time
from collections.abc import Collection

from homeport.contract.errors import IngressError
from homeport.contract.traffic import Detached, Load, PoolKey
from homeport.ingress import backends, config, rules
from homeport.ingress.backends import Backend, Supply
from homeport.ingress.config import SHARED, UNSHARED
from homeport.ingress.maps import Maps
from homeport.ingress.picture import Picture, leave, state
from homeport.ingress.publisher import Publisher
from homeport.ingress.runtime import MOST_COMMANDS, Command, Row, sessions
from homeport.ingress.supervisor import Supervisor
from homeport.undo import Undo

# Seconds after `drain`: a request that looked its pool up just before has arrived by then.
SETTLE_S = 0.05

log = logging.getLogger(__name__)


class Containers(Publisher):
    """The containers of each pool."""

    def __init__(self, maps: Maps, picture: Picture, supervisor: Supervisor) -> None:
        super().__init__(maps, picture, supervisor)
        #: Containers whose requests are about to be cut -> from which age on.
        self._overdue: dict[str, float] = {}
        self._cutting = asyncio.Lock()

    async def attach(
        self, pool: PoolKey, container: str, address: str, slots: int, *, shared: bool = True
    ) -> None:
        """Send the pool's requests to a container, at most `slots` at once."""

        async def change(undo: Undo) -> None:
            backend = await self._pool(pool, SHARED if shared else UNSHARED, undo)
            server = self._picture.server(container, address, slots)
            where = f"{backend.backend}/{container}"
            leaving = [s for s in backend.servers.values() if s.draining]
            self._picture.put_server(backend, server, undo)
            self._picture.lead(pool, backend)
            await self._supervisor.tell(
                [
                    ("add", "server", where, *config.server_words(server)),
                    ("enable", "server", where),
                    *([("enable", "health", where)] if server.there is None else []),
                    # The last server had to stay usable while it drained (see `drain`); now it need not.
                    *(leave(backend, s.name) for s in leaving),
                    *self._maps.commands(),
                ]
            )
            self._requests.expect(container)

        await self._whole(f"attach {container}", change)

    async def hold(self, pool: PoolKey, container: str, held: int) -> None:
        """Set how many slots of a container are held; if all are, it gets no new request."""

        async def change(undo: Undo) -> None:
            backend = self._picture.pools.get(pool)
            if backend is None or (server := backend.servers.get(container)) is None:
                return
            after = dataclasses.replace(server, held=min(max(held, 0), server.slots))
            if after == server:
                return
            self._picture.put_server(backend, after, undo)
            if after.full:
                await self._shut(pool, backend, container)
                return
            where = f"{backend.backend}/{container}"
            commands: list[Command] = [
                ("set", "maxconn", "server", where, str(after.slots - after.held))
            ]
            if server.full and not server.draining:
                commands.append(state(backend, container, "ready"))
            if after.open:
                self._picture.lead(pool, backend)
            await self._supervisor.tell([*commands, *self._maps.commands()])

        await self._whole(f"hold {container}", change)

    async def cut(self, pool: PoolKey, container: str, age_s: float) -> None:
        """End the container's requests that began `age_s` seconds ago or earlier."""
        if pool not in self._picture.pools:
            return
        self._overdue[container] = min(age_s, self._overdue.get(container, age_s))
        async with self._cutting:
            # One look is for all that wait by now: a machine that is lost has many containers.
            overdue, self._overdue = self._overdue, {}
            if not overdue or (runtime := self._supervisor.runtime) is None:
                return
            try:
                ends = [
                    session.id
                    for session in sessions(await runtime.ask(("show", "sess")))
                    if session.age_s >= overdue.get(session.server, math.inf)
                ]
                await runtime.end(ends)
            except IngressError:
                self._overdue = overdue | self._overdue  # the next one looks again
                raise

    async def drain(self, pool: PoolKey, container: str) -> None:
        """Send the container no new request; its running and its queued requests continue."""

        async def change(undo: Undo) -> None:
            backend = self._picture.pools.get(pool)
            if backend is None or (server := backend.servers.get(container)) is None:
                return
            self._picture.put_server(backend, dataclasses.replace(server, draining=True), undo)
            backend.settled_at[container] = time.monotonic() + SETTLE_S
            if server.full:
                return  # all its slots are held, so it gets no new request already
            if backend.open:
                await self._supervisor.tell([leave(backend, container)])
                return
            # HAProxy fails a backend's queue at once when its last server drains. So do not drain the
            # server: let new requests park instead, and the server works off its queue.
            self._picture.lead_away(pool, backend)
            await self._supervisor.tell(self._maps.commands())

        await self._whole(f"drain {container}", change)

    async def lose(self, pool: PoolKey, container: str) -> None:
        """The container has ended: send it no request; requests in its queue are routed again."""

        async def change(undo: Undo) -> None:
            backend = self._picture.pools.get(pool)
            if backend is None or (server := backend.servers.get(container)) is None:
                return
            self._picture.put_server(backend, dataclasses.replace(server, draining=True), undo)
            await self._shut(pool, backend, container)

        await self._whole(f"lose {container}", change)

    async def detach(self, pool: PoolKey, container: str) -> Detached | None:
        """Forget a container. Return None if a connection to it is still open: call again later."""

        async def change(undo: Undo) -> Detached | None:
            backend = self._picture.pools.get(pool)
            if backend is None or (server := backend.servers.get(container)) is None:
                return Detached()
            if time.monotonic() < backend.settled_at.get(container, 0.0):
                return None
            other_servers = [s for s in backend.servers.values() if s.name != container and s.open]
            if not other_servers and await self._has_queue(backend):
                return None
            self._picture.put_server(backend, dataclasses.replace(server, draining=True), undo)
            if not other_servers:
                self._picture.lead_away(pool, backend)
            await self._supervisor.tell(
                [*self._maps.commands(), state(backend, container, "maint")]
            )
            self._maps.commit()
            undo.keep()  # if a command below fails, the caller calls again
            served = 0
            if (runtime := self._supervisor.runtime) is not None:
                where = f"{backend.backend}/{container}"
                # HAProxy counts a request before it ends; no other one can come.
                rows = await runtime.stats([backend.backend])
                served = sum(row.served for row in rows if row.server == container)
                if any(row.running for row in rows if row.server == container):
                    return None
                answer = (await runtime.ask(("del", "server", where))).strip()
                if "still has" in answer or "idle" in answer:
                    return None
            del backend.servers[container]
            backend.settled_at.pop(container, None)
            self._requests.expect_no_more(container)
            return Detached(served=served)

        return await self._whole(f"detach {container}", change)

    async def load(self, pools: Collection[PoolKey]) -> dict[PoolKey, Load]:
        """Return the load of these pools; the last known load while HAProxy does not answer."""
        known_pools = {key: self._picture.pools[key] for key in pools if key in self._picture.pools}
        runtime = self._supervisor.runtime
        rows: dict[str, list[Row]] = {pool.backend: [] for pool in known_pools.values()}
        try:
            stats = await runtime.stats(list(rows)) if runtime is not None else None
        except IngressError as error:
            log.warning("the load is not known: %s", error)
            stats = None
        if stats is None:
            return {key: pool.last for key, pool in known_pools.items()}
        for row in stats:
            rows[row.backend].append(row)
        unknown = self._supervisor.suspects()
        return {
            key: backends.load(pool, rows[pool.backend], unknown)
            for key, pool in known_pools.items()
        }

    async def doze(self, pools: Collection[PoolKey]) -> None:
        """Let park.lua report the next request to each of these pools to the activator; a new process of HAProxy
        does not do it.
        """
        if (runtime := self._supervisor.runtime) is None:
            raise IngressError("HAProxy does not run")
        parameters_found = [
            self._picture.pools[pool].backend for pool in pools if pool in self._picture.pools
        ]
        for start in range(0, len(parameters_found), MOST_COMMANDS):
            some = parameters_found[start : start + MOST_COMMANDS]
            # The entry may still be there: `add map` would add a second one.
            commands = [
                command
                for backend in some
                for command in (
                    ("del", "map", rules.QUIET, backend),
                    ("add", "map", rules.QUIET, backend, "1"),
                )
            ]
            answer = await runtime.ask(*commands)
            if refused := answer.replace("Key not found.", "").strip():
                raise IngressError(f"HAProxy refused `add map {rules.QUIET}`: {refused[:200]}")

    async def _pool(self, pool: PoolKey, kind: str, undo: Undo) -> Backend:
        backend = self._picture.pools.get(pool) or self._picture.reclaim(pool, kind, undo)
        if backend is not None:
            return backend
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

    async def _shut(self, pool: PoolKey, backend: Backend, container: str) -> None:
        """Send a container no more requests; route its queue again if the pool has no other container."""
        at_once = [state(backend, container, "maint")]
        if not backend.open:
            self._picture.lead_away(pool, backend)
            # HAProxy does not send a backend's queue to its backup server by itself; `set maxconn` makes it.
            # Turning the server off and on would too, but a request that another thread routes between
            # the two commands would get 503.
            where = f"{backend.backend}/{rules.AGAIN}"
            at_once.append(("set", "maxconn", "server", where, rules.AGAIN_SLOTS))
        await self._supervisor.tell(self._maps.commands(), at_once)

    async def _has_queue(self, pool: Backend) -> bool:
        runtime = self._supervisor.runtime
        return runtime is not None and any(
            row.queued for row in await runtime.stats([pool.backend])
        )
