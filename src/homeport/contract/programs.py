"""A program that the user runs in a container, beside the function: `homeport container exec`, `homeport shell`."""

from dataclasses import field
from typing import Protocol

from homeport.contract.dataclass import dataclass

OUT, ERR = 1, 2  # the stream that the program wrote to: standard output, or standard error


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The program to run, and its surroundings."""

    argv: tuple[str, ...]
    #: Rows and columns of the terminal that it gets; None: three pipes.
    terminal: tuple[int, int] | None = None
    environ: dict[str, str] = field(
        default_factory=dict
    )  # added to the container's variables, such as TERM


class Program(Protocol):
    """A running program, as a node offers it to the control plane."""

    async def read(self) -> tuple[int, bytes]:
        """Return the bytes that it has written, and the stream (`OUT`, `ERR`); no bytes at its end. A terminal is
        all `OUT`.
        """

    async def write(self, data: bytes) -> None:
        """Give it input. Empty data ends its input, if it has no terminal."""

    async def resize(self, rows: int, columns: int) -> None:
        """Change the size of its terminal."""

    async def signal(self, number: int) -> None:
        """Send a signal to its process group."""

    async def ended(self) -> int:
        """Wait for its end; return its exit code, 128 + N for the signal N."""

    async def close(self) -> None:
        """End it, if it still runs."""
