"""The container's door: a socket that listens already when the container begins (node/door.py)."""

import contextlib
import os
import socket
import struct
import weakref
from typing import Any

CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: man 7 unix, SO_PEERCRED


class Door(socket.socket):
    """Lets in who runs as the container's own user, as the ingress does; nobody else on this machine."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(fileno=descriptor)
        os.set_inheritable(descriptor, False)
        self.setblocking(False)
        self._uid = os.getuid()  # now: the user's code may change it
        self._visitors: weakref.WeakSet[socket.socket] = weakref.WeakSet()

    def accept(self) -> tuple[socket.socket, Any]:
        """The next visitor; `BlockingIOError` when there is none now."""
        while True:
            visitor, address = super().accept()
            told = visitor.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, CREDENTIALS.size)
            if CREDENTIALS.unpack(told)[1] == self._uid:
                self._visitors.add(visitor)
                return visitor, address
            visitor.close()

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
