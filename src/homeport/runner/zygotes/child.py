"""What becomes of a process that a zygote forks, and how another zygote is forked.

Called by `forking`, in the zygote; a `Child` is read by `zygote`, in the child.
"""

import contextlib
import json
import os
import socket
from typing import Any

from homeport.contract.container import Descriptors
from homeport.contract.dataclass import dataclass
from homeport.runner import celled
from homeport.runner.zygotes.pages import Pages

MAX_REQUEST = 16 * 1024 * 1024


@dataclass
class Child:
    """What this process becomes, which a zygote has forked: a container, or another zygote."""

    kind: str  # `fork`, `function` or `snapshot`
    request: int
    handed_over: Descriptors | None = None  # for a container
    zygote: socket.socket | None = None  # for a container: the zygote says here that it may begin
    cell: tuple[int, ...] = ()  # for a container: descriptors for its cell (runner/celled.py)
    output: int = -1  # for a zygote: the descriptor of its output
    control: int = -1  # for a zygote: the socket of its commands
    #: For a zygote: the pages that its parent's containers have written to.
    written: Pages | None = None

    def wait(self) -> None:
        """Wait until the zygote has checked its imported files; end the process if a file has changed.

        Call it before the user's code runs.
        """
        if self.zygote is not None:
            with self.zygote:
                if not self.zygote.recv(1):
                    os._exit(0)


def fork_zygote(request: int, cell: list[int], output: int) -> bool:
    """Fork a zygote, in a cell below this one if this process is in one. Return False in the child.

    `cell` are descriptors for its cell; why none can be made is written to `output`.
    """
    return _in_cell(request, cell, output) if celled.inside() else _by_itself()


def _by_itself() -> bool:
    """Fork a zygote that is adopted by init; the node sees its end by its socket. Return False in the child."""
    child = os.fork()
    if child:
        reap(child)
        return True
    os.setsid()
    if os.fork():
        os._exit(0)
    return False


def _in_cell(request: int, cell: list[int], output: int) -> bool:
    """Fork a zygote in a cell below this one. Return False in the child."""
    zygote = os.getpid()
    try:
        return bool(celled.fork_zygote(data(request), cell))
    except OSError as error:
        os.write(output, f"a cell cannot be made: {error}\n".encode())
        if os.getpid() != zygote:
            os._exit(1)
        return True


def data(request: int) -> dict[str, Any]:
    """Return the JSON in a request's file."""
    content: dict[str, Any] = json.loads(os.pread(request, MAX_REQUEST, 0))
    return content


def reap(pid: int) -> None:
    """Wait until a child has ended; the zygote's loop may have reaped it already."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)
