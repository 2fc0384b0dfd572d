"""Checks a revision before it serves: its declarations are valid, and its containers start."""

import asyncio
import dataclasses
import time
from collections.abc import Callable, Iterable

from homeport.contract import names, validate
from homeport.contract.errors import BadRequest, Failure, ImageError, ScriptError, StartError
from homeport.contract.image import RESERVED
from homeport.contract.manifest import Manifest
from homeport.control.deploys import timing
from homeport.control.fleet import scheduler
from homeport.control.fleet.nodes import Nodes
from homeport.control.fleet.pool import Pool
from homeport.state.secrets import SecretBox

QUEUE_S = 60.0  # how long a start may wait for its turn
LOOK_S = 1.0

Say = Callable[[str], None]


def check(name: str, manifest: Manifest, tag: str, strategy: str) -> None:
    """Raise for a deploy with a wrong name, tag or strategy, or without a function."""
    validate.check(dataclasses.replace(manifest, app_name=name))
    timing.check(manifest, time.time())
    if tag and not names.is_deployment_tag(tag):
        raise BadRequest(f"Invalid deployment tag: '{tag}'.")
    if strategy not in {"rolling", "recreate"}:
        raise BadRequest(f"Deployment strategy must be 'rolling' or 'recreate', not '{strategy}'")
    if not manifest.functions:
        raise ScriptError(
            f"the app `{name}` has no function",
            hint="put `@app.function()` above one",
        )


def check_node(
    manifest: Manifest,
    nodes: Nodes,
    secret_box: SecretBox,
    *,
    say: Say = lambda _text: None,
    lacking: Say | None = None,
) -> None:
    """Raise for what no machine here can do, before anything is touched; `say` what waits for a machine of Ray's.

    If the machine lacks a resource, call `lacking` with the text instead, if it is given.
    """
    for spec in manifest.functions:
        secret_box.check(spec)
        if spec.block_network and not any(capacity.networks for capacity in nodes.capacities()):
            raise ScriptError(
                f"`{spec.name}` has `block_network=True`, and containers have no network of their own here",
                where=spec.where,
                hint="`homeport doctor` says how to isolate containers",
            )
        if spec.restrict_modal_access and not any(
            capacity.has_mounts for capacity in nodes.capacities()
        ):
            raise ScriptError(
                f"`{spec.name}` has `restrict_modal_access=True`, and containers are not isolated here",
                where=spec.where,
                hint="`homeport doctor` says how to isolate containers",
            )
        why = scheduler.impossible(spec, nodes.capacities())
        if why and (kind := nodes.addable.fitting(spec, nodes.capacities())):
            say(f"`{spec.name}` {why}: it waits for a machine `{kind.name}` of the Ray cluster")
        elif why and lacking is not None:
            lacking(f"`{spec.name}` {why}: it runs with what there is")
        elif why:
            raise ScriptError(
                f"`{spec.name}` {why}",
                where=spec.where,
                hint="`homeport serve` runs it with what there is",
            )
    for file in manifest.files:
        if not file.path.startswith("/"):
            continue
        where = _adds(file.path, manifest)
        if f"{file.path}/".startswith(tuple(f"{path}/" for path in RESERVED)):
            raise ImageError(f"nothing can be added at `{file.path}`", where=where)
        if not all(capacity.isolated for capacity in nodes.capacities()):
            raise ImageError(
                f"`{file.path}` lies outside /root, and containers have no files of their own here",
                where=where,
                hint="`homeport doctor` says how to isolate containers; without that, use a path "
                "under /root, and open it relative to the working directory",
            )


async def prove(
    pools: list[Pool], wake: Callable[[Pool], None], say: Say, replaced: Iterable[Pool] = ()
) -> None:
    """Start one container of each function, so that a broken import fails the deploy and not a visitor.

    A function without a URL beside one with a URL may fail: perhaps nothing calls it, or its model is not in the
    volume yet. A warning is shown, and the deploy continues, unless the function started in the pool that is replaced.
    """
    tried = [pool for pool in pools if not _needs_parameters(pool)]
    has_url = any(pool.function.web for pool in tried)
    worked = {pool.function.name for pool in replaced if pool.failure is None}
    for pool in tried:
        pool.floor = 1
        wake(pool)
    try:
        async with asyncio.TaskGroup() as group:
            for pool in tried:
                may_fail = has_url and not pool.function.web and pool.function.name not in worked
                group.create_task(_first_ready(pool, say, may_fail=may_fail))
    except ExceptionGroup as group:
        # Not `except*`: Python 3.11.2 and 3.11.3 wrap exceptions raised in there in another group.
        failures = group.subgroup(Failure)
        if failures is None:
            raise
        raise failures.exceptions[0] from None
    finally:
        for pool in tried:
            pool.floor = 0


async def _first_ready(pool: Pool, say: Say, *, may_fail: bool) -> None:
    name = pool.function.name
    try:
        await _ready(pool)
    except Failure as failure:
        if may_fail:
            pool.floor = 0
            say(f"`{name}` does not start, so calls of it will fail: {failure.message}")
            return
        failure.where = failure.where or pool.function.where
        raise
    say(f"`{name}` is ready")


async def _ready(pool: Pool) -> None:
    """Wait for a pool's first container. The time in which it waits for a machine does not count: `rooms` limits that."""
    left_s = pool.function.startup_timeout_s + QUEUE_S
    ready = asyncio.ensure_future(pool.first_ready())
    try:
        while left_s > 0:
            done, _ = await asyncio.wait({ready}, timeout=min(left_s, LOOK_S))
            if done:
                ready.result()
                return
            if not pool.awaits_since:
                left_s -= LOOK_S
    finally:
        ready.cancel()
    raise StartError(
        f"`{pool.function.name}` had no container that was ready in time",
        where=pool.function.where,
        hint="`homeport status` shows what the machine is busy with",
    )


def _needs_parameters(pool: Pool) -> bool:
    return any(parameter.required for parameter in pool.function.parameters)


def _adds(path: str, manifest: Manifest) -> str:
    """The place of the step that adds a file."""
    steps = (step for spec in manifest.functions for step in spec.image.steps)
    adding_steps = (
        s for s in steps if path.startswith(s.args.get("remote_path", "\0").rstrip("/"))
    )
    return next((step.where for step in adding_steps), "")
