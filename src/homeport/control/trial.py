"""Whether a revision can be: what it declares makes sense, and its containers start."""

import asyncio
from collections.abc import Callable

from homeport.contract import names
from homeport.contract.errors import BadRequest, Failure, ScriptError
from homeport.contract.manifest import Manifest
from homeport.control.pools import Pool

QUEUE_S = 60.0  # what a start may wait for its turn

Say = Callable[[str], None]


def check(name: str, manifest: Manifest, tag: str, strategy: str) -> None:
    """Raise for a deploy that cannot be meant."""
    if not names.is_object_name(name):
        raise BadRequest(
            f"Invalid App name: '{name}'.",
            hint="letters, digits, `-`, `_` and `.`, at most 64 of them",
        )
    if tag and not names.is_deployment_tag(tag):
        raise BadRequest(f"Invalid deployment tag: '{tag}'.")
    if strategy not in {"rolling", "recreate"}:
        raise BadRequest(f"Deployment strategy must be 'rolling' or 'recreate', not '{strategy}'")
    if not manifest.functions:
        raise ScriptError(
            f"the app `{name}` has no web function",
            hint="put `@modal.fastapi_endpoint()` under `@app.function()`",
        )


async def prove(pools: list[Pool], wake: Callable[[], None], say: Say) -> None:
    """One container of each, so that a broken import fails the deploy and not a visitor."""
    tried = [pool for pool in pools if not _needs_parameters(pool)]
    for pool in tried:
        pool.floor = 1
    wake()
    try:
        async with asyncio.TaskGroup() as group:
            for pool in tried:
                group.create_task(_first_ready(pool, say))
    except* Failure as failures:
        raise failures.exceptions[0] from None
    finally:
        for pool in tried:
            pool.floor = 0


async def _first_ready(pool: Pool, say: Say) -> None:
    try:
        async with asyncio.timeout(pool.function.startup_timeout_s + QUEUE_S):
            await pool.first_ready()
    except Failure as failure:
        failure.where = failure.where or pool.function.where
        raise
    say(f"`{pool.function.name}` is ready")


def _needs_parameters(pool: Pool) -> bool:
    return any(parameter.required for parameter in pool.function.parameters)
