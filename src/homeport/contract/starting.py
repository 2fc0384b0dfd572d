"""The two lines between a command and the server that it starts, `Start` in and `Started` out; and the content of a
home's lock file.

Both are the same homeport, unless it is replaced at this very moment. So a line that cannot be read raises an error
that names this cause.
"""

from dataclasses import field
from enum import IntEnum
from typing import Any

from homeport.contract.api.answers import Fault
from homeport.contract.dataclass import dataclass

LOCK = "lock"  # the name of that file
WAITING = "standby.lock"  # the name of the file that a standby of the home locks


def leader(text: str) -> tuple[int, str]:
    """Return the pid and the state in the file of a home's lock; 0 for a file that names no pid.

    >>> leader("17\\nleads\\nthere\\n"), leader("17\\n"), leader("")
    ((17, 'leads'), (17, ''), (0, ''))
    """
    pid, state, *_machine = [*text.split("\n"), ""]
    return (int(pid) if pid.isdecimal() else 0), state.strip()


class Ending(IntEnum):
    """The exit code of a server: why it ended, and what still runs."""

    SIGNAL = 0  # a signal ended it, with everything that it ran
    FAILED = 1
    DOWN = 10  # `homeport down` ended it, with everything: it must not be started again
    HANDED_OVER = 11  # it ended alone: HAProxy and the containers still run, for the next server


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """The line that the server reads from its standard input; if that closes later, the command has ended."""

    settings: dict[str, Any] = field(repr=False)  # `Settings.sent`; among them are passwords
    kept: bool  # False: the server ends when its standard input closes


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """The server serves."""

    pid: int
    http_port: int  # of the main URLs, also where the settings say 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The line that the server writes to its standard output; a server that is killed before writes nothing."""

    ready: Ready | None = None
    error: Fault | None = None  # why it does not serve
