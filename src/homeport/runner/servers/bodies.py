"""Limits how long a visitor may stop sending the body of a request.

Every server of a container ends such a request with 408 (RFC 9110, 15.5.9): it holds a slot, and `timeout` may
be hours. Each byte that arrives starts the time again, so a slow upload continues. The time counts only while a
byte could arrive, and only before the response begins: an app that does not read by itself, and a conversation
in both directions, are limited by `timeout` alone.
"""

import math
from typing import Any

# As in Apache's mod_reqtimeout. TCP repeats lost data after 1, 3, 7 and 15 s, so a visitor who had no
# connection for 15 s can continue.
STALL_S = 20.0


def why() -> str:
    """Return what happened, for the visitor and for the log."""
    return f"nothing of the request's body arrived for {STALL_S:g} s"


def asks(first: bytes) -> bool:
    """Return whether a program's first bytes are `100 Continue` alone (RFC 9110, 15.2.1)."""
    head, _, more = first.partition(b"\r\n\r\n")
    return head[8:12] == b" 100" and not more


class Rest:
    """The part of a relayed request that has not arrived yet.

    The relay passes bytes on without reading them, so this reads beside it where a body was announced.
    """

    def __init__(self) -> None:
        # The runner brings it (node/images/environments.py); most requests have no body and do not need it.
        import httptools

        self.is_complete = False
        self._must_ask = False  # True until the program asks for the body with `100 Continue`
        self._heard_at = math.inf  # when the last part arrived (loop's clock)
        self._parser: Any = httptools.HttpRequestParser(self)

    @staticmethod
    def follows(head: bytes) -> bool:
        """Return whether the first bytes of a request may announce a body."""
        lower = head.lower()
        return b"\r\ncontent-length:" in lower or b"\r\ntransfer-encoding:" in lower

    def on_header(self, name: bytes, _value: bytes) -> None:
        """Called by the parser."""
        if name.lower() == b"expect":
            self._must_ask = True

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self.is_complete = True

    def arrived(self, data: bytes, now: float) -> None:
        """Read bytes of the request. Bytes that the parser cannot read count as complete."""
        self._heard_at = now
        if self.is_complete:
            return
        try:
            self._parser.feed_data(data)
        except Exception:  # an upgrade, or what only HAProxy and the program understand
            self.is_complete = True

    def continue_was_sent(self, now: float) -> None:
        """The program has sent `100 Continue`, so the visitor sends the body from now on."""
        self._must_ask, self._heard_at = False, now

    def reads_again(self, now: float) -> None:
        """The relay reads again: before, no byte could arrive."""
        self._heard_at = now

    def is_stalled(self, now: float) -> bool:
        """Return whether the visitor has sent nothing for too long."""
        return not (self.is_complete or self._must_ask) and now - self._heard_at > STALL_S
