"""A process that is held by its pidfd: its number may be another's one day, the descriptor never is."""

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path


@dataclass(slots=True)
class Held:
    """A process, and the descriptor by which it is watched and signalled (man 2 pidfd_open)."""

    pid: int  # as this process sees it
    pidfd: int  # -1 once it was given back

    @staticmethod
    def of(pidfd: int, *, parent: int) -> "Held":
        """The process that a descriptor from elsewhere stands for.

        `PermissionError` where it is no child of `parent`: whoever sent it may have sent any process's.
        """
        os.set_inheritable(pidfd, False)
        held = Held(_field(f"/proc/self/fdinfo/{pidfd}", "Pid:"), pidfd)
        if held.pid <= 0 or _field(f"/proc/{held.pid}/status", "PPid:") != parent:
            held.close()
            raise PermissionError(0, f"process {held.pid} is no child of {parent}")
        return held

    @staticmethod
    def sent(pidfd: int) -> "Held":
        """The process that has sent this descriptor of itself, before any code of the user's ran in it."""
        os.set_inheritable(pidfd, False)
        return Held(_field(f"/proc/self/fdinfo/{pidfd}", "Pid:"), pidfd)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; nothing where it has ended."""
        if self.pidfd >= 0:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(self.pidfd, number)

    def close(self) -> None:
        """Hold it no longer."""
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


def _field(file: str, name: str) -> int:
    """A number in one of the kernel's tables (proc(5)); -1 where it is not there."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path(file).read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1])
    return -1
