"""The container's door: a socket that listens already when the container begins (node/containers/door.py)."""

import contextlib
import errno
import os
import socket
import struct
import weakref
from typing import Any

CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: man 7 unix, SO_PEERCRED


class Door(socket.socket):
    """Lets in who runs as the container's own user, as the ingress does; nobody else on this machine.

    A container in a cell sees other users than its node does, so its door is a path in a directory of
    mode 0700 that no cell shows, and not looked at.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(fileno=descriptor)
        os.set_inheritable(descriptor, False)
        self.setblocking(False)
        # A path is in a directory that only the ingress's user may enter. An abstract name is for all.
        is_abstract = super().getsockname()[:1] in (b"\0", "\0")
        self._uid = os.getuid() if is_abstract else -1  # now: the user's code may change it
        self._visitors: weakref.WeakSet[socket.socket] = weakref.WeakSet()
        # A descriptor for one visitor at a time, when the user's code has taken all others. It is opened
        # before the user's code runs, so its number is a low one, below whatever limit that code sets.
        self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self.is_short = False  # there are no descriptors left but the reserve

    def accept(self) -> tuple[socket.socket, Any]:
        """The next visitor; `BlockingIOError` when there is none now.

        While `is_short`, each visitor's connection has to end with its response, to make room for
        the next one.
        """
        while True:
            visitor, address = self._next()
            told = visitor.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
            if self._uid in (-1, CREDENTIALS.unpack(told)[1]):
                self._visitors.add(visitor)
                return visitor, address
            visitor.close()

    def _next(self) -> tuple[socket.socket, Any]:
        try:
            found = super().accept()
        except OSError as error:
            if error.errno != errno.EMFILE:
                raise
            self.is_short = True
            if self._reserve < 0:
                raise
            os.close(self._reserve)
            self._reserve = -1
            found = super().accept()
        if self._reserve < 0:
            with contextlib.suppress(OSError):
                self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
                self.is_short = False
        return found

    def close(self) -> None:
        """Listen no more."""
        if self._reserve >= 0:
            os.close(self._reserve)
            self._reserve = -1
        super().close()

    def descriptors(self) -> list[int]:
        """Its own, and those of everybody who was let in and has not left yet."""
        found = [self.fileno(), *(visitor.fileno() for visitor in list(self._visitors))]
        return [descriptor for descriptor in found if descriptor >= 0]

    def shut(self) -> None:
        """From now on a connection is refused before anything is sent, so that HAProxy goes elsewhere.

        Closing the socket is the app server's business, and comes too late for the next request; and
        somebody who was forked may have a copy. Who is in the queue already can still be let in.
        """
        with contextlib.suppress(OSError):
            self.shutdown(socket.SHUT_RDWR)
