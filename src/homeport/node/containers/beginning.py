"""Starts the processes of one container: forked from a zygote if that is possible, else in a fresh interpreter."""

import shlex
from collections.abc import Callable

from homeport.contract.container import Descriptors, Launch
from homeport.contract.errors import ImageError
from homeport.node.containers.process import Born, Process
from homeport.node.containers.shared import Shared
from homeport.node.images.made import Made
from homeport.node.zygotes.snapshots import Unforkable

NO_FORKS = "forking is off, or not safe on this system"


async def begin(
    shared: Shared,
    launch: Launch,
    process: Process,
    made: Made,
    environ: dict[str, str],
    given: Descriptors,
    *,
    say: Callable[[str], None],
) -> tuple[Born | None, str]:
    """Start the processes; return the forked ones, if any, and why the interpreter is a fresh one.

    In a cell a fresh interpreter is forked too, because zygotes make the cells: then there are both a forked
    process and a reason. `ImageError` if no cell can be made; `Unstartable` from a snapshot's own code.
    """
    why_fresh = NO_FORKS
    if (zygotes := shared.zygotes) is not None:
        try:
            if launch.entrypoint:
                raise Unforkable(f"its image has an entrypoint: `{shlex.join(launch.entrypoint)}`")
            return await process.fork(
                lambda passed: zygotes.fork(launch, made, environ, passed), given
            ), ""
        except Unforkable as why:
            why_fresh = str(why)
            say(f"started in a fresh interpreter: {why}")
        if shared.cells is not None:
            try:
                return await process.fork(
                    lambda passed: zygotes.fresh(launch, made, environ, passed), given
                ), why_fresh
            except Unforkable as why:
                raise ImageError("the container's sandbox cannot be made", hint=str(why)) from None
    process.start([made.python, *shared.runner], environ, shared.lib, given)
    return None, why_fresh
