"""Which containers one zygote can fork: those that have the variables that its modules saw."""

import dataclasses
import json
from collections.abc import Iterable, Mapping

from homeport.contract.container import Launch, StartOrder
from homeport.contract.manifest import FunctionSpec
from homeport.contract.variables import SILENTLY_READ
from homeport.node.images.made import Made
from homeport.node.launch import INHERITED

#: Variables that each container has of its own; those of GPUs where a function uses them.
OWN = ("MODAL_TASK_ID", "HOMEPORT_TASK_ID", "TMPDIR")
GPUS = {"CUDA_VISIBLE_DEVICES": "", "NVIDIA_VISIBLE_DEVICES": "void"}
#: What a base zygote has in any case; of the other variables, only those that its imports look at.
PLAIN = (*INHERITED, "PATH", "VIRTUAL_ENV", "PYTHONUNBUFFERED")


def identity(order: StartOrder, made: Made) -> tuple[str, ...]:
    """The same for all containers that a function zygote may fork, if their variables allow it."""
    return (made.key, order.pool.app, order.pool.function, order.pool.revision)


def shared(function: FunctionSpec, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that all containers of a function have."""
    found = {name: value for name, value in environ.items() if name not in OWN}
    return {**found, **GPUS} if function.gpu else found


def own(function: FunctionSpec) -> tuple[str, ...]:
    """The variables that they do not share."""
    return (*OWN, *(GPUS if function.gpu else ()))


def nobody(launch: Launch) -> Launch:
    """Return a launch of the same function that is no container's."""
    order = dataclasses.replace(launch.order, id="", devices=())
    return Launch(order=order, runner_path=launch.runner_path)


def plain(environ: Mapping[str, str], reads: Iterable[str]) -> dict[str, str]:
    """The variables of a base zygote whose imports read these."""
    return {k: v for k, v in environ.items() if k in PLAIN or _matters(k, reads)}


def key(made: Made, environ: Mapping[str, str], reads: Iterable[str]) -> str:
    """The same for containers that one base zygote can fork."""
    seen = sorted((k, v) for k, v in environ.items() if _matters(k, reads))
    return json.dumps([made.key, seen])


def _matters(name: str, reads: Iterable[str]) -> bool:
    if name in OWN or name in GPUS:
        return False
    return name in reads or name.startswith(SILENTLY_READ)
