"""The services that all containers of a node share, and their turns to start."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from homeport.contract.container import Container, LogLine, StartOrder
from homeport.contract.dataclass import dataclass
from homeport.node.cells.sandboxes import Cells
from homeport.node.containers.output import Outputs
from homeport.node.images.environments import Environments
from homeport.node.images.trusted import Trusted
from homeport.node.limits.keeper import Limits
from homeport.node.zygotes.nursery import Zygotes

TURN_S = 1.0  # after this time a start that hangs lets the next one begin


@dataclass(slots=True, kw_only=True)
class Shared:
    """Services that all containers of a node share."""

    environments: Environments
    zygotes: Zygotes | None
    cells: Cells | None = None  # set if containers are isolated
    doors: Path = Path()  # for the sockets of isolated containers: mode 0700
    limits: Limits
    outputs: Outputs
    turns: asyncio.Semaphore  # more starts at once only make each of them slower
    runner: Sequence[str]
    lib: Path  # a folder with `homeport/` in it, and no other module
    trusted: Trusted
    lifeline: int | None = None  # a process that has it ends when the other end closes
    changed: Callable[[Container], None] = lambda _container: None
    on_line: Callable[[LogLine], None] = lambda _line: None
    #: Returns when a source tree is here; None: all of them are. Raises `StartError`.
    fetch: Callable[[str], Awaitable[None]] | None = None


class Turn:
    """One of the places for concurrent starts; released after TURN_S, so that a hanging start blocks no other."""

    def __init__(self, turns: asyncio.Semaphore) -> None:
        self._turns: asyncio.Semaphore | None = turns
        self._timer = asyncio.get_running_loop().call_later(TURN_S, self.give_back)

    def give_back(self) -> None:
        """Release the place for the next start."""
        if self._turns is not None:
            self._turns.release()
            self._turns = None
            self._timer.cancel()


def log_line(order: StartOrder, text: str, *, source: str, request: str = "") -> LogLine:
    """Return a line for a container's log, with the present time."""
    return LogLine(
        at=time.time(),
        app=order.pool.app,
        function=order.pool.function,
        container=order.id,
        text=text,
        source=source,
        request=request,
        within=order.within,
    )
