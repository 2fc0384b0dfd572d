"""What both transports of the client have: the reply to a request, and the ways in which there is none."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from homeport.contract.dataclass import dataclass

Content = bytes | AsyncIterator[bytes] | None
CONNECT_S = 5.0
CHUNK_BYTES = 1024**2


class NoReply(Exception):
    """The connection ended in the middle of a request or its reply"""


class NotConnected(NoReply):
    """Nobody listens"""


class Silence(NoReply):
    """Somebody listens, and does not answer in time"""


@dataclass(frozen=True, slots=True)
class Reply:
    """The reply to a request, whose body has not been read yet."""

    status: int
    pieces: Callable[[], AsyncIterator[bytes]]  # of its body, as they arrive

    @property
    def is_error(self) -> bool:
        return self.status >= 400

    async def read(self) -> bytes:
        """Return the whole body."""
        return b"".join([piece async for piece in self.pieces()])


class Transport(Protocol):
    """Brings requests to one server."""

    def exchange(
        self, method: str, path: str, content: Content, *, answer_s: float | None
    ) -> AbstractAsyncContextManager[Reply]:
        """Make a request; yields its reply. Raises `NoReply`, also while the body is read.

        `answer_s` is how long the server may send nothing; None for any time.
        """

    def close(self) -> Awaitable[None]:
        """Close all connections."""
