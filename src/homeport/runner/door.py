"""The container's door: a socket that listens before the container starts (node/containers/door.py)."""

import contextlib
import errno
import os
import socket
import struct
import weakref
from typing import Any

CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: man 7 unix, SO_PEERCRED


class Door(socket.socket):
    """Accepts connections only from the container's own user, which the ingress runs as too.

    In a cell the container sees other users than its node does. Its door is then a path in a directory of
    mode 0700 that no cell shows, and `accept` does not look at the user.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(fileno=descriptor)
        os.set_inheritable(descriptor, False)
        self.setblocking(False)
        # A path is in a directory that only the ingress's user may enter. All users can connect to an abstract name.
        is_abstract = super().getsockname()[:1] in (b"\0", "\0")
        self._uid = os.getuid() if is_abstract else -1  # now: the user's code may change it
        self._visitors: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        # A descriptor for one connection at a time, if the user's code has used up all others. It is opened
        # before the user's code runs, so its number is low, below any limit that the code sets.
        self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self.is_short = False  # True if no descriptor is left but the reserve
        self._is_shut = False

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept the next connection; `BlockingIOError` if none waits now, EINVAL if there will be no more.

        While `is_short`, the caller must close each connection after its response: the next connection
        needs its descriptor.
        """
        while True:
            visitor, address = self._next()
            credentials = visitor.getsockopt(
                socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size
            )
            if self._uid in (-1, CREDENTIALS.unpack(credentials)[1]):
                self._visitors.add(visitor)
                return visitor, address
            visitor.close()

    def _next(self) -> tuple[socket.socket, Any]:
        try:
            accepted = super().accept()
        except OSError as error:
            if error.errno == errno.EAGAIN and self._is_shut:
                # The kernel returns EINVAL only for blocking sockets. A shut door stays readable, so without
                # this error an event loop would call `accept` forever.
                raise OSError(errno.EINVAL, "the door is shut") from None
            if error.errno != errno.EMFILE:
                raise
            self.is_short = True
            if self._reserve < 0:
                raise
            os.close(self._reserve)
            self._reserve = -1
            accepted = super().accept()
        if self._reserve < 0:
            with contextlib.suppress(OSError):
                self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
                self.is_short = False
        return accepted

    def close(self) -> None:
        """Listen no more."""
        if self._reserve >= 0:
            os.close(self._reserve)
            self._reserve = -1
        super().close()

    def descriptors(self) -> list[int]:
        """The door's descriptors, and those of all open connections."""
        numbers = [self.fileno(), *(visitor.fileno() for visitor in list(self._visitors))]
        return [descriptor for descriptor in numbers if descriptor >= 0]

    def shut(self) -> None:
        """Refuse new connections, so that HAProxy sends their requests to another container.

        Not by closing the socket: the app server closes it, too late for the next request, and a forked
        child may have a copy. Connections in the kernel's queue can still be accepted.
        """
        with contextlib.suppress(OSError):
            self.shutdown(socket.SHUT_RDWR)
        self._is_shut = True  # not before: a connection may still have come
