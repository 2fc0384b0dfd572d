"""Tags each line that the user's code prints with the id of its request.

contract/output.py has the format of the tag. Lines of concurrent requests are never mixed: a piece waits
for its newline, unless it is flushed.
"""

import re
import sys
import threading
from collections.abc import Sequence
from typing import Any

from homeport.contract.output import REQUEST, REQUEST_END
from homeport.sdk import context

MOST_SHOWN = 1000  # lines that a start may have printed before it starts again


def install(shown: Sequence[Sequence[str]] = ((), ())) -> None:
    """Replace stdout and stderr, so that `print` and logging write tagged lines.

    `shown` are the lines that this start printed to stdout and stderr before it started again.
    """
    sys.stdout = Lines(sys.stdout, shown[0])
    sys.stderr = Lines(sys.stderr, shown[1])


def remember(*, keep: bool) -> None:
    """Start to record the printed lines, in case the container starts again; or, with `keep=False`, stop."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, Lines):
            stream.printed = [] if keep else None


def shown(stream: Any) -> list[str]:
    """Return the lines that were printed since `remember`."""
    if not isinstance(stream, Lines):
        return []
    stream.flush()
    text = "".join(stream.printed or ())
    return text.splitlines()[:MOST_SHOWN]


class Lines:
    """A text stream that tags lines; all else is the original stream's."""

    def __init__(self, stream: Any, shown: Sequence[str] = ()) -> None:
        self._stream = stream
        self.printed: list[str] | None = None
        self._shown = [_without_numbers(line) for line in shown][::-1]
        self._partial = ""  # the part of a line so far, while `shown` is compared
        self._lock = threading.Lock()
        self._rests: dict[str, str] = {}  # request -> its text without a newline so far

    def write(self, text: str) -> int:
        """Write the whole lines, and store the incomplete last line."""
        request = context.input_id.get()
        if not request:
            if self.printed is not None and len(self.printed) < MOST_SHOWN:
                self.printed.append(text)
            elif self._shown:
                self._write_what_is_new(text)
                return len(text)
            return int(self._stream.write(text))
        with self._lock:
            *lines, partial_line = (self._rests.pop(request, "") + text).split("\n")
            if partial_line:
                self._rests[request] = partial_line
            if lines:
                self._stream.write(
                    "".join(f"{REQUEST}{request}{REQUEST_END}{line}\n" for line in lines)
                )
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write them all."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Write the request's text as a line, also without a newline."""
        request = context.input_id.get()
        if self._partial and not self._shown[-1].startswith(_without_numbers(self._partial)):
            self._shown.clear()
            self._stream.write(self._partial)
            self._partial = ""
        with self._lock:
            if partial_line := self._rests.pop(request or "", ""):
                self._stream.write(f"{REQUEST}{request}{REQUEST_END}{partial_line}\n")
        self._stream.flush()

    def _write_what_is_new(self, text: str) -> None:
        """Leave out lines that the start printed before it started again, until a line differs."""
        *lines, self._partial = (self._partial + text).split("\n")
        while lines and self._shown and _without_numbers(lines[0]) == self._shown[-1]:
            self._shown.pop()
            del lines[0]
        if lines or not self._shown:
            self._shown.clear()
            self._stream.write("\n".join([*lines, self._partial]))
            self._partial = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _without_numbers(line: str) -> str:
    """Replace numbers, because times, durations and process ids differ each time."""
    return re.sub(r"\d+", "0", line)
