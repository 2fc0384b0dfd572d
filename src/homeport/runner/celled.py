"""A zygote's children in cells, where the node has started the base zygote in a base cell.

HOMEPORT_CELL says what the cells consist of; without it, every function here does what a container
without a cell needs. What the node sends for a cell comes after all other descriptors, and the request has
`mounts` (one for each descriptor) and perhaps `cgroup` (then the last one is its `cgroup.procs`).
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from homeport.cell import kernel, mounts, nested, private, seal
from homeport.cell.description import Cell
from homeport.contract import codec

CELL = "HOMEPORT_CELL"

_cell: Cell | None = None
_made = 0


def begin() -> None:
    """In the base zygote: take what the node has said from the environment."""
    global _cell  # noqa: PLW0603 - one for the whole process, and for all that it forks
    if text := os.environ.pop(CELL, ""):
        _cell = codec.loads(Cell, text)


def inside() -> bool:
    """Whether this process is in a cell."""
    return _cell is not None


def fork() -> int:
    """As os.fork(), for a container: the child is pid 1 of a private cell.

    `OSError` in the child where it could not be made, and in the parent where it could not even be begun.
    """
    if _cell is None:
        return os.fork()
    global _made  # noqa: PLW0603
    _made += 1
    return private.fork(_cell, storage())


def storage() -> str:
    """The name of the latest private cell's directory; empty without cells."""
    return str(_made) if _cell is not None else ""


def fork_zygote(asked: Mapping[str, Any], descriptors: Sequence[int]) -> int:
    """As os.fork(), for a zygote below this one, whose cell is `asked["storage"]`; nobody waits for it."""
    assert _cell is not None
    wanted = [codec.decode(mounts.Mount, mount) for mount in asked["mounts"]]
    pairs = list(zip(wanted, descriptors, strict=True))
    child = nested.fork(_cell, asked["storage"], pairs, writes=asked["writes"])
    if child == 0:
        global _made  # noqa: PLW0603
        _made = 0
    return child


def enter(asked: Mapping[str, Any], descriptors: Sequence[int]) -> None:
    """In a container's runner: put the mounts in place, join the cgroup, give the rights away."""
    if _cell is None:
        return
    wanted = [codec.decode(mounts.Mount, mount) for mount in asked["mounts"]]
    trees, rest = descriptors[: len(wanted)], descriptors[len(wanted) :]
    mounts.place(list(zip(wanted, trees, strict=True)))
    for cgroup in rest:
        os.write(cgroup, b"0")
        os.close(cgroup)
    seal.seal(_cell)


def forget(storage: str) -> None:
    """In a zygote: delete what is left of a private cell that nobody has used."""
    if storage:
        private.remove(storage)


def seal_init() -> None:
    """For a container's init, once it has its descriptors."""
    if _cell is not None:
        seal.seal_init(_cell)


def code(status: int) -> int:
    """How a container ended, by its init's exit code: one that is pid 1 cannot end by a signal of its own."""
    return 128 - status if _cell is not None and status > 128 else status


def adopts() -> None:
    """Be the parent of what this process's children leave behind."""
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
