"""What the user prints, line by line, each with the request that it was printed for.

A tagged line begins as contract/output.py has it. Lines of requests that run at once are never mixed: a
piece waits for its newline, unless it is flushed.
"""

import sys
import threading
from typing import Any

from homeport.contract.output import REQUEST, REQUEST_END
from homeport.sdk import environment


def install() -> None:
    """From now on `print` and logging go through here."""
    sys.stdout = Lines(sys.stdout)
    sys.stderr = Lines(sys.stderr)


class Lines:
    """A text stream that tags; everything else is the stream's own."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self._rests: dict[str, str] = {}  # request -> what has no newline yet

    def write(self, text: str) -> int:
        """Write what is whole lines, and keep the rest."""
        request = environment.input_id.get()
        if not request:
            return int(self._stream.write(text))
        with self._lock:
            *lines, rest = (self._rests.pop(request, "") + text).split("\n")
            if rest:
                self._rests[request] = rest
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
        """What was printed for this request is a line of its own, newline or not."""
        request = environment.input_id.get()
        with self._lock:
            if rest := self._rests.pop(request or "", ""):
                self._stream.write(f"{REQUEST}{request}{REQUEST_END}{rest}\n")
        self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
