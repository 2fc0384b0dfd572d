"""Decides which containers a zygote can fork: those with the same values of the variables that its modules read."""

import dataclasses
import json
from collections.abc import Iterable, Mapping

from homeport.contract.container import Launch, StartOrder
from homeport.contract.manifest import FunctionSpec
from homeport.contract.variables import SILENTLY_READ
from homeport.node.images.made import Made
from homeport.node.launch import INHERITED

#: Variables that differ in each container; those of GPUs too, if a function uses GPUs.
OWN = ("MODAL_TASK_ID", "HOMEPORT_TASK_ID", "HOMEPORT_REVISION", "TMPDIR")
GPUS = {"CUDA_VISIBLE_DEVICES": "", "NVIDIA_VISIBLE_DEVICES": "void"}
#: Variables that a base zygote always has; of all others, only those that its imports read.
PLAIN = (*INHERITED, "PATH", "VIRTUAL_ENV", "PYTHONUNBUFFERED")


def identity(
    order: StartOrder, image: Made, environ: Mapping[str, str], avoid: Iterable[str]
) -> str:
    """Return a key that is the same for all containers of one function zygote.

    Revisions that differ only in the user's files have the same: a zygote imports packages alone. `avoid` are the
    modules that must not be preloaded for the container's revision.
    """
    function = order.function
    parts = [
        *(image.key, str(order.within), order.pool.app, order.pool.function),
        sorted(shared(function, environ).items()),
        *(sorted(avoid), own(function), function.image.workdir, function.block_network),
    ]
    return json.dumps(parts)


def shared(function: FunctionSpec, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that all containers of a function share."""
    variables = {name: value for name, value in environ.items() if name not in OWN}
    return {**variables, **GPUS} if function.gpu else variables


def own(function: FunctionSpec) -> tuple[str, ...]:
    """Return the names of the variables that they do not share."""
    return (*OWN, *(GPUS if function.gpu else ()))


def nobody(launch: Launch) -> Launch:
    """Return a launch of the same function that belongs to no container."""
    order = dataclasses.replace(launch.order, id="", devices=())
    return Launch(order=order, runner_path=launch.runner_path)


def plain(environ: Mapping[str, str], reads: Iterable[str]) -> dict[str, str]:
    """Return the variables of a base zygote whose imports read these names."""
    return {k: v for k, v in environ.items() if k in PLAIN or _matters(k, reads)}


def key(image: Made, environ: Mapping[str, str], reads: Iterable[str]) -> str:
    """Return a key that is the same for all containers of one base zygote."""
    values = sorted((k, v) for k, v in environ.items() if _matters(k, reads))
    return json.dumps([image.key, values])


def _matters(name: str, reads: Iterable[str]) -> bool:
    if name in OWN or name in GPUS:
        return False
    return name in reads or name.startswith(SILENTLY_READ)
