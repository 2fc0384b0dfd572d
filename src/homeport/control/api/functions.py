"""The routes by which code asks for a function's numbers, and changes how it is scaled."""

import dataclasses

from homeport.contract import calls
from homeport.contract.api.functions import FunctionQuery, FunctionStats, Scaling, Variant
from homeport.contract.errors import NotFound
from homeport.contract.scope import Scope
from homeport.contract.traffic import Endpoint
from homeport.contract.variants import Options
from homeport.control.api.record import Audited
from homeport.control.api.routing import route
from homeport.control.deploys.parts import Parts
from homeport.control.deploys.plans import LiveEndpoint
from homeport.control.deploys.scaling import Scaler
from homeport.control.deploys.variants import Variants, Wanted
from homeport.control.fleet.member import Stage
from homeport.control.fleet.owner import Owner
from homeport.control.fleet.pool import Pool


class Functions:
    """The functions of the apps that serve."""

    def __init__(self, parts: Parts, scaler: Scaler, variants: Variants) -> None:
        self._live, self._pools, self._endpoints = parts.live, parts.pools, parts.endpoints
        self._scaler, self._variants = scaler, variants
        self._key = parts.environments.key

    @route("GET", "/v1/functions/{app}/{tag}")
    async def one(self, scope: Scope, app: str, tag: str, query: FunctionQuery) -> FunctionStats:
        """Return a function's numbers and scaling."""
        live = self._endpoint(scope, app, tag, query.session)
        return _status(live, self._pool(scope, live, app, query))

    @route("POST", "/v1/functions/{app}/{tag}/scaling")
    async def scale(
        self, scope: Scope, app: str, tag: str, query: FunctionQuery, body: Scaling
    ) -> FunctionStats:
        """Change how a function is scaled, until the next deploy."""
        live = self._endpoint(scope, app, tag, query.session)
        pool = self._pool(scope, live, app, query)
        await self._scaler.change(pool, body)
        return _status(live, pool)

    @route("POST", "/v1/functions/{app}/{tag}/variants", audit=Audited.NONE)
    async def vary(
        self, scope: Scope, app: str, tag: str, query: FunctionQuery, body: Options
    ) -> Variant:
        """Make a variant of a function, with other options and containers of its own; it goes when it is idle.

        The same options again are the same variant.
        """
        if tag.endswith(".*"):
            tag = self._endpoint(scope, app, tag, query.session, called=True).tag
        requested = Wanted(
            app=app,
            tag=tag,
            options=body,
            within=scope,
            key=self._key(scope),
            scope=query.session,
            version=query.version or None,
        )
        endpoint = await self._variants.make(requested)
        return Variant(endpoint=endpoint.id, function=endpoint.pool.function)

    def _endpoint(
        self, scope: Scope, app: str, tag: str, session: str, *, called: bool = False
    ) -> LiveEndpoint:
        owner = Owner.session(scope, session) if session else Owner.app(scope, app)
        live = self._live.get(owner)
        for endpoint in live.endpoints.values() if live is not None and live.name == app else ():
            if called and not endpoint.endpoint.is_called:
                continue
            if tag in (endpoint.tag, endpoint.endpoint.pool.function):  # or `Class.*`
                return endpoint
        raise NotFound(f"no deployed app `{app[:80]}` has a function `{tag[:80]}`")

    def _pool(self, scope: Scope, live: LiveEndpoint, app: str, query: FunctionQuery) -> Pool:
        endpoint: Endpoint | None = live.endpoint
        if query.variant:
            called = self._endpoint(
                scope, app, live.endpoint.pool.function, query.session, called=True
            )
            variant = calls.endpoint_id(
                app,
                called.tag,
                key=self._key(scope),
                scope=query.session,
                variant=query.variant,
            )
            endpoint = self._endpoints.endpoint(variant)
        if endpoint is None:
            raise NotFound(f"`{live.tag}` has no such variant now")
        key = dataclasses.replace(endpoint.pool, parameters=query.parameters)
        return self._pools.called_for(key)


def _status(live: LiveEndpoint, pool: Pool) -> FunctionStats:
    ready = pool.count(Stage.READY)
    spec = pool.function
    return FunctionStats(
        tag=live.tag,
        url=live.url,
        local_url=live.local_url,
        backlog=pool.load.queued + len(pool.parked),
        containers=ready + pool.count(Stage.STARTING, Stage.ATTACHING),
        running=pool.load.running,
        headroom=max(ready * spec.max_inputs - pool.load.running, 0),
        scaling=Scaling(
            min_containers=spec.min_containers,
            max_containers=spec.max_containers,
            buffer_containers=spec.buffer_containers,
            scaledown_window=spec.scaledown_window_s,
            target_inputs=spec.target_inputs or spec.max_inputs,
        ),
    )
