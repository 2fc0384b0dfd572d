"""A program that the user runs in a container, beside the function: `homeport container exec`, `homeport shell`."""

from dataclasses import field
from typing import Protocol

from homeport.contract.dataclass import dataclass

OUT, ERR = 1, 2  # where the program has written: standard output, or standard error


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to run."""

    argv: tuple[str, ...]
    terminal: tuple[int, int] | None = (
        None  # rows and columns of the terminal that it gets; None: three pipes
    )
    environ: dict[str, str] = field(default_factory=dict)  # beside the container's: TERM, say


class Program(Protocol):
    """A program that runs, as a node shows it."""

    async def read(self) -> tuple[int, bytes]:
        """Return what it has written, and where (`OUT`, `ERR`); no bytes after its end. A terminal is all `OUT`."""

    async def write(self, data: bytes) -> None:
        """Give it input; without bytes its input ends, if it has no terminal."""

    async def resize(self, rows: int, columns: int) -> None:
        """Change the size of its terminal."""

    async def signal(self, number: int) -> None:
        """Send a signal to its process group."""

    async def ended(self) -> int:
        """Wait for its end; return its exit code, 128 + N for the signal N."""

    async def close(self) -> None:
        """End it, if it still runs."""
