"""Log lines on their way to the control plane: batches that are kept until it has taken them.

A control plane that is slow, or away, fills this buffer and no more: further lines are dropped and counted. A batch that was
under way when the connection was lost is sent again, and the control plane knows its number.
"""

import logging
import time
from collections import OrderedDict, deque

from homeport.contract.container import LogLine
from homeport.link.messages import Logs

MOST_BYTES = 4 * 2**20
BATCH_BYTES = 48 * 2**10
WINDOW = 4  # batches under way
LOG_EACH_S = 10.0
_AROUND = 200  # bytes that a line takes besides its text

log = logging.getLogger(__name__)


class Lines:
    """The lines that wait, and the batches under way."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._waiting: deque[LogLine] = deque()
        self._under_way: OrderedDict[int, tuple[Logs, int]] = OrderedDict()
        self._next = 0
        self._dropped = 0  # since the last batch
        self._logged_at: float | None = None
        self.size_bytes = 0  # of both

    def add(self, line: LogLine) -> None:
        """Add a line, or drop it if there is no room."""
        size = _size(line)
        if self.size_bytes + size > self._most_bytes:
            self._dropped += 1
            if self._logged_at is None or time.monotonic() - self._logged_at > LOG_EACH_S:
                self._logged_at = time.monotonic()
                log.warning("lines of logs are dropped: the control plane does not take them")
            return
        self.size_bytes += size
        self._waiting.append(line)

    def batch(self) -> Logs | None:
        """Return the next batch to send; None if nothing waits, or enough is under way."""
        if not self._waiting or len(self._under_way) >= WINDOW:
            return None
        lines: list[LogLine] = []
        size = 0
        while self._waiting and (not lines or size + _size(self._waiting[0]) <= BATCH_BYTES):
            lines.append(self._waiting.popleft())
            size += _size(lines[-1])
        batch = Logs(number=self._next, lines=tuple(lines), dropped=self._dropped)
        self._next, self._dropped = self._next + 1, 0
        self._under_way[batch.number] = batch, size
        return batch

    def confirmed(self, number: int) -> None:
        """Forget the batches up to this number: the control plane has them."""
        while self._under_way and next(iter(self._under_way)) <= number:
            _, (_made, size) = self._under_way.popitem(last=False)
            self.size_bytes -= size

    def again(self) -> list[Logs]:
        """Return the batches under way, to send them over a new connection."""
        return [batch for batch, _size in self._under_way.values()]


def _size(line: LogLine) -> int:
    return len(line.text) + _AROUND
