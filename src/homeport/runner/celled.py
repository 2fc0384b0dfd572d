"""A zygote's children in cells, where the node has started the base zygote in a base cell.

HOMEPORT_CELL describes the cells; without it, each function here does what a container without a cell
needs. The descriptors for a cell come after all others. The request has `mounts` (one for each of them),
and perhaps `cgroup` (then the last descriptor is its `cgroup.procs`).
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
    """In the base zygote: read the cell's description from the environment variables."""
    global _cell  # noqa: PLW0603 - one for the whole process, and for all that it forks
    if text := os.environ.pop(CELL, ""):
        _cell = codec.loads(Cell, text)


def inside() -> bool:
    """Return whether this process is in a cell."""
    return _cell is not None


def fork() -> int:
    """Fork a container: as os.fork(), but the child is pid 1 of a private cell.

    `OSError` in the child if the cell could not be made, and in the parent if it could not be started.
    """
    if _cell is None:
        return os.fork()
    global _made  # noqa: PLW0603
    _made += 1
    return private.fork(_cell, storage())


def storage() -> str:
    """Return the name of the latest private cell's directory; empty without cells."""
    return str(_made) if _cell is not None else ""


def fork_zygote(asked: Mapping[str, Any], descriptors: Sequence[int]) -> int:
    """Fork a zygote below this one, as os.fork(), with the cell `asked["storage"]`; init adopts it."""
    assert _cell is not None
    wanted = [codec.decode(mounts.Mount, mount) for mount in asked["mounts"]]
    pairs = list(zip(wanted, descriptors, strict=True))
    child = nested.fork(_cell, asked["storage"], pairs, writes=asked["writes"])
    if child == 0:
        global _made  # noqa: PLW0603
        _made = 0
    return child


def enter(asked: Mapping[str, Any], descriptors: Sequence[int]) -> None:
    """In a container's runner: attach the mounts, join the cgroup, drop all privileges."""
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
    """In a zygote: delete the directory of a private cell that was not used."""
    if storage:
        private.remove(storage)


def seal_init() -> None:
    """Seal a container's init; call it when init has its descriptors."""
    if _cell is not None:
        seal.seal_init(_cell)


def code(status: int) -> int:
    """Return how a container ended, from its init's exit code: pid 1 cannot end itself by a signal."""
    return 128 - status if _cell is not None and status > 128 else status


def adopts() -> None:
    """Become the parent of processes that this process's children leave behind."""
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
