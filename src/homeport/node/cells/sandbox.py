"""A cell in which zygotes fork, and the data that a container's or a zygote's own cell gets when it begins."""

import contextlib
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from homeport.cell.description import Cell
from homeport.contract import codec
from homeport.contract.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Handed:
    """The data for the cell of a container or a zygote: a part of the request, and the descriptors."""

    request: dict[str, Any]
    descriptors: tuple[
        int, ...
    ]  # a tree for each mount, then the cgroup's `cgroup.procs`, if there is one


NOTHING = Handed({}, ())


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A cell in which zygotes fork containers."""

    cell: Cell
    storage: Path  # what the cells below it write: a directory for each
    nested: bool = False  # it is below a base cell
    #: The storages of all cells whose zygotes may fork: also an empty one must stay.
    used: set[Path] = dataclasses.field(default_factory=set, repr=False)

    def __post_init__(self) -> None:
        self.used.add(self.storage)

    def command(self, argv: Sequence[str], cwd: Path) -> list[str]:
        """Return the command line that runs another command in this base cell."""
        order = {
            "cell": codec.encode(self.cell),
            "argv": list(argv),
            "cwd": str(cwd),
            "private": False,
        }
        return [sys.executable, "-E", "-P", "-m", "homeport.cell", json.dumps(order)]

    def environ(self) -> dict[str, str]:
        """Return the variable that describes the cells of a zygote's children."""
        return {"HOMEPORT_CELL": codec.dumps(self.cell)}

    def below(self, name: str) -> "Sandbox":
        """Return the sandbox of a nested cell."""
        return Sandbox(self.cell, self.storage / name, nested=True, used=self.used)

    def release(self) -> None:
        """Forget the sandbox, because its zygote has ended; its storage is deleted with the last container."""
        self.used.discard(self.storage)
        for directory in (self.storage, self.storage.parent) if self.nested else (self.storage,):
            if directory not in self.used:
                with contextlib.suppress(OSError):
                    directory.rmdir()
