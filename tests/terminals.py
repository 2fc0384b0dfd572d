"""A command on a pseudo-terminal, and what its screen shows."""

import contextlib
import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyte

from tests.waiting import PATIENCE_S, wait_for

WIDTH, HIGH = 160, 200


class Terminal:
    """A running command; `written` is everything that it has written to its terminal."""

    def __init__(
        self, words: Sequence[str | Path], environ: Mapping[str, str], *, echo: bool = False
    ) -> None:
        """With `echo`, the screen shows what is typed."""
        self.written = b""
        # Workers of pytest have a size of their own, which a command would take for the terminal's.
        given = {name: value for name, value in environ.items() if name not in ("COLUMNS", "LINES")}
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", HIGH, WIDTH, 0, 0))
        modes = termios.tcgetattr(theirs)
        modes[3] &= ~termios.ECHO if not echo else -1
        termios.tcsetattr(theirs, termios.TCSANOW, modes)
        os.set_blocking(self._ours, False)
        self.process = subprocess.Popen(
            [str(word) for word in words],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={"TERM": "xterm-256color", **given},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)

    def wait_for(self, text: str) -> None:
        """Wait until the command has written this."""
        wait_for(lambda: self.read() and text.encode() in self.written, text)

    def press(self, key: bytes) -> None:
        """Type a key, such as Ctrl-C."""
        os.write(self._ours, key)

    def end(self) -> int:
        """Wait for the command's end; return its exit code."""
        try:
            wait_for(lambda: self.read() and self.process.poll() is not None, "the command's end")
            self.read()
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
            code = self.process.wait(PATIENCE_S)
            os.close(self._ours)
        return code

    def read(self) -> bool:
        """Read what has been written."""
        with contextlib.suppress(BlockingIOError, OSError):  # EIO: the other end is closed
            while piece := os.read(self._ours, 65536):
                self.written += piece
        return True

    @property
    def screen(self) -> pyte.Screen:
        """Return the screen as a terminal shows it in the end."""
        screen = pyte.Screen(WIDTH, HIGH)
        pyte.ByteStream(screen).feed(self.written)
        return screen

    @property
    def shown(self) -> list[str]:
        """Return the lines of the screen."""
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip("\n").split("\n")
