"""Follows what containers print.

A container prints into a file and not into a pipe, so that it goes on when the control plane is
gone. The file is read every 50 ms while there are containers, and cut when it has grown.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

PASS_BYTES = 256 * 1024  # of one container in one pass, so that none holds up the others
MAX_LINE = 16 * 1024
MAX_FILE = 1024 * 1024
START, END = b"\x1e", b"\x1f"  # around a request's id (runner/lines.py)
PATIENCE_S = 1.0  # a piece without a newline is a line after that


class Output:
    """One container's output file, as lines."""

    def __init__(self, path: Path, said: Callable[[str, str], None]) -> None:
        self._said = said
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        # How far it was read: a server that takes a container over goes on from there.
        self._mark = os.open(f"{path}.read", os.O_RDWR | os.O_CREAT, 0o600)
        self._offset = int(os.pread(self._mark, 20, 0) or b"0")
        self._rest = b""
        self._rest_since = 0.0

    def fileno(self) -> int:
        """Where the container prints."""
        return self._descriptor

    def read(self) -> bool:
        """Tell the lines that are there; whether there may be more."""
        data = os.pread(self._descriptor, PASS_BYTES, self._offset)
        if data:
            self._offset += len(data)
            self._tell(data)
            self._cut()
            os.pwrite(self._mark, b"%020d" % (self._offset - len(self._rest)), 0)
        elif self._rest and time.monotonic() - self._rest_since > PATIENCE_S:
            self._flush()
        return len(data) == PASS_BYTES

    def close(self) -> None:
        """Tell what is left."""
        while self.read():
            pass
        self._flush()
        os.close(self._descriptor)
        os.close(self._mark)

    def _tell(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest_since = time.monotonic()
        for line in lines:
            self._say(line)
        while len(self._rest) > MAX_LINE:
            self._say(self._rest[:MAX_LINE])
            self._rest = self._rest[MAX_LINE:]

    def _flush(self) -> None:
        if self._rest:
            self._say(self._rest)
            self._rest = b""

    def _say(self, line: bytes) -> None:
        request = ""
        if line.startswith(START) and END in line:
            tag, _, line = line.partition(END)
            request = _text(tag.removeprefix(START))
        for start in range(0, max(len(line), 1), MAX_LINE):
            self._said(_text(line[start : start + MAX_LINE]), request)

    def _cut(self) -> None:
        # The container appends, so its next line goes to the new end.
        if self._offset > MAX_FILE and os.fstat(self._descriptor).st_size == self._offset:
            os.ftruncate(self._descriptor, 0)
            self._offset = 0


def _text(line: bytes) -> str:
    return line.rstrip(b"\r").decode("utf-8", "replace")
