"""Makes variants of functions (contract/variants.py) when a caller calls one, and forgets them when they are idle.

Called by the API, for `.remote()` and `.spawn()`, and by the dispatcher. A variant is only in memory: each caller has
the options, and asks again when its endpoint was removed. So a restart, a deploy or a stop of the app only has to
remove the endpoints together with their pools.
"""

import asyncio
import dataclasses

from homeport.contract import calls, variants
from homeport.contract.dataclass import dataclass
from homeport.contract.errors import NotFound, ScriptError, TooMany
from homeport.contract.manifest import FunctionSpec, Manifest
from homeport.contract.scope import Scope
from homeport.contract.traffic import Endpoint, PoolKey
from homeport.contract.variants import Options
from homeport.control.deploys import trial
from homeport.control.deploys.mounts import Mounts
from homeport.control.deploys.parts import Parts
from homeport.control.fleet.owner import Owner
from homeport.control.fleet.pool import RETIRED_DRAIN_S, Pool
from homeport.supervised import Tasks
from homeport.undo import Undo


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The function of which a variant is wanted, and how it differs."""

    app: str
    tag: str  # the function, or `Class.method`, or `Class.*`
    options: Options
    within: Scope
    key: str = dataclasses.field(repr=False)  # of that environment
    scope: str = ""  # the session of the app; empty: the deployed app
    version: int | None = None  # of the app; None: the current one

    def endpoint_id(self, tag: str, *, variant: str = "") -> str:
        """Return the id of an endpoint of the function, or of the variant."""
        return calls.endpoint_id(
            self.app,
            tag,
            key=self.key,
            scope=self.scope,
            version=self.version,
            variant=variant,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    holder: Owner
    endpoints: dict[str, Endpoint]  # by id


class Variants:
    """The variants that there are now."""

    def __init__(self, parts: Parts, mounts: Mounts) -> None:
        self._parts = parts
        self._pools = parts.pools
        self._endpoints = parts.endpoints
        self._mounts = mounts
        self._most = parts.settings.max_parameter_pools  # of one function
        self._made: dict[PoolKey, list[_Made]] = {}
        self._locks: dict[
            tuple[Scope, str], asyncio.Lock
        ] = {}  # by app: makings of one app take turns
        self._tasks = Tasks()
        parts.pools.on_removed.append(self._removed)

    async def close(self) -> None:
        """Cancel the removals that are under way."""
        await self._tasks.close()

    async def make(self, wanted: Wanted) -> Endpoint:
        """Return the variant's endpoint; make the variant if there is none.

        `NotFound` without such a function, `TooMany` if too many variants of it are in use, and the errors of a deploy
        for options that no node can fulfil.
        """
        if (endpoint := self._existing(wanted)) is not None:
            return endpoint
        async with self._locks.setdefault((wanted.within, wanted.app), asyncio.Lock()):
            return self._existing(wanted) or await self._make(wanted)

    def retries_of(self, endpoint: str) -> str | None:
        """Return the retries of a variant behind an endpoint, as text; None if no variant has it."""
        routed = self._endpoints.endpoint(endpoint)
        is_variant = routed is not None and variants.MARK in routed.pool.function
        return routed.retries if routed is not None and is_variant else None

    def tidy(self) -> None:
        """Remove the endpoints of variants whose revision no longer serves: the next call makes them again."""
        for key in list(self._made):
            pool = self._pools.get(key)
            if pool is None or pool.retired:
                self._unroute(self._made.pop(key))

    def _existing(self, wanted: Wanted) -> Endpoint | None:
        digest = wanted.options.digest
        endpoint = self._endpoints.endpoint(wanted.endpoint_id(wanted.tag, variant=digest))
        pool = self._pools.get(endpoint.pool) if endpoint is not None else None
        if pool is None or pool.retired or pool.orphan:
            return None
        return endpoint

    async def _make(self, wanted: Wanted) -> Endpoint:
        base = self._base(wanted)
        pool = await self._pool(base, wanted)
        digest = wanted.options.digest
        routes = {}
        for call in pool.function.calls:
            own = wanted.endpoint_id(call.tag, variant=digest)
            origin = self._endpoints.endpoint(wanted.endpoint_id(call.tag))
            if origin is not None:
                routes[own] = _varied(origin, own, pool)
        holder = self._endpoints.holder(wanted.endpoint_id(wanted.tag)) or base.owner
        async with Undo(f"making a variant of `{wanted.tag}` of `{wanted.app}`") as undo:
            for endpoint in routes.values():
                await self._endpoints.route(undo, holder, endpoint)
            undo.keep()
        self._made.setdefault(pool.key, []).append(_Made(holder=holder, endpoints=routes))
        return routes[wanted.endpoint_id(wanted.tag, variant=digest)]

    def _base(self, wanted: Wanted) -> Pool:
        """Return the function's own pool."""
        endpoint = self._endpoints.endpoint(wanted.endpoint_id(wanted.tag))
        pool = self._pools.get(endpoint.pool) if endpoint is not None else None
        if pool is None or pool.retired:
            raise NotFound(
                f"no deployed app `{wanted.app[:80]}` has a function `{wanted.tag[:80]}` that is called"
            )
        return pool

    async def _pool(self, base: Pool, wanted: Wanted) -> Pool:
        spec = await self._checked(base.declared or base.function, wanted)
        name = variants.name(base.key.function, wanted.options.digest)
        fresh = base.of_options(name, spec)
        existing = self._pools.get(fresh.key)
        if existing is None:
            self._make_way(base)
        pool = self._pools.open(fresh)
        # A pool of an earlier server's containers knows no secrets.
        pool.function, pool.orphan = fresh.function, False
        pool.peak.resize(pool.function.scaledown_window_s)
        pool.used_at = asyncio.get_running_loop().time()
        if base.demoted and not pool.demoted:
            pool.demote(0.0)
        return pool

    async def _checked(self, function: FunctionSpec, wanted: Wanted) -> FunctionSpec:
        """Return the variant with its volumes; raise the errors that a deploy of it would raise."""
        options = wanted.options
        spec = variants.varied(function, options)
        # The function's own secrets and volumes are the server's by now, and have other names than a script gives.
        supplied = dataclasses.replace(
            spec, secrets=options.secrets or (), build_secrets=(), volumes=options.volumes or ()
        )
        manifest = Manifest(app_name=wanted.app, functions=(supplied,))
        try:
            trial.check(wanted.app, manifest, "", "rolling")
            manifest = await self._mounts.resolve(wanted.within, manifest)
            if options.volumes is not None:
                spec = dataclasses.replace(spec, volumes=manifest.functions[0].volumes)
            whole = dataclasses.replace(manifest, functions=(spec,))
            self._mounts.check(wanted.within, whole)
            box = self._parts.secrets.of(wanted.within)
            trial.check_node(whole, self._parts.nodes, box)
        except ScriptError as error:
            # `homeport serve`, which the hint may name, is no way out for a variant.
            raise ScriptError(error.message, where=error.where) from None
        return spec

    def _make_way(self, base: Pool) -> None:
        """Retire the least recently used variant of a function if the limit is reached."""
        bases = [
            pool
            for pool in self._pools
            if pool.variant
            and not pool.key.parameters
            and (pool.key.app, pool.key.revision) == (base.key.app, base.key.revision)
            and variants.origin(pool.key.function) == base.key.function
        ]
        staying = [pool for pool in bases if not pool.retired]
        if len(staying) < self._most:
            return
        idle = [pool for pool in staying if all(p.idles and not p.least for p in self._all(pool))]
        if not idle or len(bases) >= 2 * self._most:
            raise TooMany(
                f"{self._most} variants of `{base.function.name}` are in use at once; try again",
                hint="a variant is removed when it has been idle for its `scaledown_window`",
            )
        for pool in self._all(min(idle, key=lambda pool: pool.used_at)):
            pool.retire(RETIRED_DRAIN_S)
            self._parts.reconciler.wake(pool)
        self.tidy()

    def _all(self, base: Pool) -> list[Pool]:
        """Return a variant's pools for all class parameters."""
        return [p for p in self._pools if dataclasses.replace(p.key, parameters="") == base.key]

    def _removed(self, pool: Pool) -> None:
        variants_made = self._made.pop(pool.key, None)
        if variants_made is not None:
            self._unroute(variants_made)

    def _unroute(self, variants_made: list[_Made]) -> None:
        async def unroute() -> None:
            async with Undo("forgetting a variant") as undo:
                for variant in variants_made:
                    for endpoint_id, endpoint in variant.endpoints.items():
                        if self._endpoints.endpoint(endpoint_id) is endpoint:
                            # It was not made again meanwhile.
                            await self._endpoints.unroute(undo, variant.holder, endpoint_id)
                undo.keep()

        self._tasks.start("forgetting a variant", unroute())


def _varied(origin: Endpoint, endpoint_id: str, pool: Pool) -> Endpoint:
    spec = pool.function
    return dataclasses.replace(
        origin,
        id=endpoint_id,
        pool=pool.key,
        timeout_s=spec.timeout_s,
        retries=spec.retries.text if spec.retries else "",
    )
