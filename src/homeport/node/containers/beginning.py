"""Starts the processes of one container: forked from a zygote if that is possible, else in a fresh interpreter."""

import dataclasses
import os
import shlex
from collections.abc import Callable, Mapping

from homeport.contract.container import Descriptors, Launch
from homeport.contract.errors import ImageError
from homeport.node.containers import slowness
from homeport.node.containers.process import Born, Process
from homeport.node.containers.shared import Shared
from homeport.node.images.made import Made
from homeport.node.launch import environ_for
from homeport.node.zygotes.snapshots import Unforkable

NO_FORKS = "forking is off, or not safe on this system"


def prepared(
    shared: Shared, launch: Launch, secrets: Mapping[str, str]
) -> tuple[Launch, Made, dict[str, str]]:
    """Return the launch with what its image says, the image's environment, and the container's variables."""
    image = shared.environments.of(launch.function.image)
    launch = dataclasses.replace(
        launch,
        runner_path=image.runner_path,
        entrypoint=image.entrypoint,
        workdir=image.workdir or "",
    )
    if shared.cells is not None and not shared.environments.is_compiled(image):
        launch = dataclasses.replace(launch, order=slowness.with_time_to_compile(launch.order))
    environ = environ_for(launch, secrets, os.environ, image.python, shared.lib, image.environ)
    environ |= shared.trusted.variables(image, environ)
    if shared.cells is not None:
        environ = shared.cells.environ(environ, image)
    return launch, image, environ


async def begin(
    shared: Shared,
    launch: Launch,
    process: Process,
    image: Made,
    environ: dict[str, str],
    descriptors: Descriptors,
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
                lambda passed: zygotes.fork(launch, image, environ, passed), descriptors
            ), ""
        except Unforkable as why:
            why_fresh = str(why)
            say(f"started in a fresh interpreter: {why}")
        if shared.cells is not None:
            try:
                return await process.fork(
                    lambda passed: zygotes.fresh(launch, image, environ, passed), descriptors
                ), why_fresh
            except Unforkable as why:
                raise ImageError("the container's sandbox cannot be made", hint=str(why)) from None
    process.start([image.python, *shared.runner], environ, shared.lib, descriptors)
    return None, why_fresh
