"""An image that containers can start from."""

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path

from homeport.contract.dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A built image on this machine.

    With `lowers` it has a root file system of its own: `python` is a path in it, `environ` are the variables that
    the image sets, and this machine's `PATH` has no effect.
    """

    key: str
    python: str  # the interpreter
    directory: Path  # the environment's records are kept here
    #: The runner's packages, last on `sys.path`; empty: they are among the user's packages.
    runner_path: str = ""
    lowers: tuple[str, ...] = ()  # layers from the lowest up, as `Cell.layers`
    environ: Mapping[str, str] = field(default_factory=dict)
    workdir: str | None = None
    entrypoint: tuple[
        str, ...
    ] = ()  # the first words of the command line of a container's first process

    def has_layer(self, name: str) -> bool:
        """Return whether a directory of the store is one of its layers."""
        return any(Path(lower).parent.name == name for lower in self.lowers)
