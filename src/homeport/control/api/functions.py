"""The routes by which code asks for a function's numbers, and changes how it is scaled."""

import dataclasses
from typing import Any

from homeport.contract import validate
from homeport.contract.api.functions import FunctionQuery, FunctionStats, Scaling
from homeport.contract.errors import BadRequest, NotFound
from homeport.contract.manifest import FunctionSpec
from homeport.control.api.routing import route
from homeport.control.deploys.parts import Parts
from homeport.control.deploys.plans import LiveEndpoint
from homeport.control.fleet.owner import Owner
from homeport.control.fleet.pool import Pool, Stage


class Functions:
    """The functions of the apps that serve."""

    def __init__(self, parts: Parts) -> None:
        self._live, self._pools, self._reconciler = parts.live, parts.pools, parts.reconciler

    @route("GET", "/v1/functions/{app}/{tag}")
    async def one(self, app: str, tag: str, query: FunctionQuery) -> FunctionStats:
        """Return a function's numbers and scaling."""
        live = self._endpoint(app, tag, query.session)
        return _status(live, self._pool(live, query.parameters))

    @route("POST", "/v1/functions/{app}/{tag}/scaling")
    async def scale(self, app: str, tag: str, query: FunctionQuery, body: Scaling) -> FunctionStats:
        """Change how a function is scaled, until the next deploy or the server's restart."""
        live = self._endpoint(app, tag, query.session)
        pool = self._pool(live, query.parameters)
        pool.function = _scaled(pool.function, body)
        if body.scaledown_window is not None:
            pool.peak.resize(pool.function.scaledown_window_s)
        self._reconciler.wake()
        return _status(live, pool)

    def _endpoint(self, app: str, tag: str, session: str) -> LiveEndpoint:
        owner = Owner.session(session) if session else Owner.app(app)
        live = self._live.get(owner)
        for endpoint in live.endpoints.values() if live is not None and live.name == app else ():
            if tag in (endpoint.tag, endpoint.endpoint.pool.function):  # or `Class.*`
                return endpoint
        raise NotFound(f"no deployed app `{app[:80]}` has a function `{tag[:80]}`")

    def _pool(self, live: LiveEndpoint, parameters: str) -> Pool:
        key = live.endpoint.pool
        return self._pools.called_for(dataclasses.replace(key, parameters=parameters))


def _scaled(spec: FunctionSpec, scaling: Scaling) -> FunctionSpec:
    changed: dict[str, Any] = {
        name: value
        for name, value in (
            ("min_containers", scaling.min_containers),
            ("max_containers", scaling.max_containers),
            ("buffer_containers", scaling.buffer_containers),
            ("scaledown_window_s", scaling.scaledown_window),
            ("target_inputs", scaling.target_inputs),
        )
        if value is not None
    }
    fresh = dataclasses.replace(spec, **changed)
    low, high = fresh.min_containers, fresh.max_containers
    if high is not None and not 1 <= high <= validate.MAX_CONTAINERS:
        raise BadRequest(
            f"`max_containers` must be from 1 to {validate.MAX_CONTAINERS}, not {high}"
        )
    most = validate.MAX_CONTAINERS if high is None else high
    if not 0 <= low <= most:
        raise BadRequest(f"`min_containers` must be from 0 to {most}, not {low}")
    if not 0 <= fresh.buffer_containers <= validate.MAX_CONTAINERS:
        raise BadRequest(f"`buffer_containers` cannot be {fresh.buffer_containers}")
    if not 1 <= (fresh.target_inputs or 1) <= fresh.max_inputs:
        raise BadRequest(
            f"the requests at once for a container must be from 1 to {fresh.max_inputs}, "
            f"not {fresh.target_inputs}"
        )
    least, longest = validate.SCALEDOWN_S
    if not least <= fresh.scaledown_window_s <= longest:
        raise BadRequest("`scaledown_window` must be between 2 and 3600 (inclusive)")
    return fresh


def _status(live: LiveEndpoint, pool: Pool) -> FunctionStats:
    ready = pool.count(Stage.READY)
    spec = pool.function
    return FunctionStats(
        tag=live.tag,
        url=live.url,
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
