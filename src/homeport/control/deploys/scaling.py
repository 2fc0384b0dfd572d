"""Changes how pools are scaled while they serve: `update_autoscaler`. It holds until the next deploy of the app."""

import asyncio
import contextlib
import dataclasses
from typing import Any

from homeport.contract import validate
from homeport.contract.api.functions import Scaling
from homeport.contract.errors import BadRequest, Failure
from homeport.contract.manifest import FunctionSpec
from homeport.contract.traffic import PoolKey
from homeport.control.deploys.parts import Parts
from homeport.control.fleet.pool import Pool
from homeport.state.rows import Revision
from homeport.state.scaling import ScalingRow, Scalings


class Scaler:
    """The settings that differ from those of the script."""

    def __init__(self, parts: Parts, rows: Scalings) -> None:
        self._pools = parts.pools
        self._reconciler = parts.reconciler
        self._rows = rows
        self._set: dict[PoolKey, Scaling] = {}
        self._turn = asyncio.Lock()
        parts.pools.on_added.append(self._added)

    async def change(self, pool: Pool, change: Scaling) -> None:
        """Change a pool's settings; null leaves one as it is. `BadRequest` for one that cannot be."""
        async with self._turn:  # two changes at once may each set another value
            merged = _merged(self._set.get(pool.key, Scaling()), change)
            scaled(pool.declared or pool.function, merged)  # raises before anything is saved
            if pool.owner.is_app and not pool.variant:
                await self._rows.save(pool.owner.scope, ScalingRow(pool=pool.key, scaling=merged))
            self._set[pool.key] = merged
            _apply(pool, merged)
        self._reconciler.wake(pool)

    async def restore(self, revision: Revision) -> None:
        """Set again the values that were set before the server ended."""
        for row in await self._rows.of(revision.scope, revision.app, revision.id):
            self._set[row.pool] = row.scaling
            with contextlib.suppress(Failure):  # a value of a class parameter that no pool can have
                _apply(self._pools.called_for(row.pool), row.scaling)

    def forget(self) -> None:
        """Drop the settings of revisions that have no pool any more."""
        there = {(pool.key.app, pool.key.revision) for pool in self._pools}
        self._set = {key: s for key, s in self._set.items() if (key.app, key.revision) in there}

    def _added(self, pool: Pool) -> None:
        """Apply the set values to a pool that was removed while it was not used, and is added again."""
        if (scaling := self._set.get(pool.key)) is not None:
            _apply(pool, scaling)


def _apply(pool: Pool, scaling: Scaling) -> None:
    pool.declared = pool.declared or pool.function
    pool.function = scaled(pool.declared, scaling)
    pool.minimum = scaling.min_containers
    if scaling.scaledown_window is not None:
        pool.peak.resize(pool.function.scaledown_window_s)


def _merged(before: Scaling, change: Scaling) -> Scaling:
    changes = {
        field.name: value
        for field in dataclasses.fields(change)
        if (value := getattr(change, field.name)) is not None
    }
    return dataclasses.replace(before, **changes)


def scaled(spec: FunctionSpec, scaling: Scaling) -> FunctionSpec:
    """Return the function with other settings; `BadRequest` for one that cannot be."""
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
