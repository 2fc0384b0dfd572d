"""A process with its pidfd: the pid may be reused by another process, the descriptor cannot."""

import contextlib
import os
import signal
from pathlib import Path

from homeport.contract.dataclass import dataclass


@dataclass(slots=True)
class Held:
    """A process, and the descriptor with which it is watched and signalled (man 2 pidfd_open)."""

    pid: int  # as this process sees it
    pidfd: int  # -1 after `close`

    @staticmethod
    def of(pidfd: int, *, parent: int) -> "Held":
        """Return the process of a received pidfd.

        `PermissionError` if it is not a child of `parent`: a sender could send any process's descriptor.
        """
        os.set_inheritable(pidfd, False)
        process = Held(_field(f"/proc/self/fdinfo/{pidfd}", "Pid:"), pidfd)
        if process.pid <= 0 or _field(f"/proc/{process.pid}/status", "PPid:") != parent:
            process.close()
            raise PermissionError(0, f"process {process.pid} is not a child of {parent}")
        return process

    @staticmethod
    def sent(pidfd: int) -> "Held":
        """Return the process that has sent its own pidfd, before any code of the user ran in it."""
        os.set_inheritable(pidfd, False)
        return Held(_field(f"/proc/self/fdinfo/{pidfd}", "Pid:"), pidfd)

    @staticmethod
    def is_one(descriptor: int) -> bool:
        """Return whether a descriptor is a pidfd; a sender could send any other."""
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/self/fdinfo/{descriptor}").read_text().splitlines()
            return any(line.startswith("Pid:") for line in lines)
        return False

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; do nothing if it has ended."""
        if self.pidfd >= 0:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(self.pidfd, number)

    def close(self) -> None:
        """Close the descriptor."""
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1


def _field(file: str, name: str) -> int:
    """Return a number of one of the kernel's tables (proc(5)); -1 if it is missing."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path(file).read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1])
    return -1
