"""Closes descriptors that a container has sent, without waiting for the container.

Closing a TCP socket with `SO_LINGER` waits until its bytes have arrived, also if the socket does not block (man 7 socket).
Such a socket may also wait unread in the queue of a Unix socket. So nothing of the node's event loop closes them.
"""

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Iterable

AT_ONCE = struct.pack("ii", 1, 0)  # unsent bytes are dropped


def close(descriptors: Iterable[int]) -> None:
    """Close the descriptors in a thread. The sender must not be able to ask for many threads: let it be ended."""
    if every := tuple(descriptors):
        threading.Thread(target=_close, args=(every,), name="received", daemon=True).start()


def _close(descriptors: tuple[int, ...]) -> None:
    for descriptor in descriptors:
        with contextlib.suppress(OSError):  # it is no socket
            own = socket.socket(fileno=descriptor)
            with contextlib.suppress(OSError):
                own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
            own.detach()
        os.close(descriptor)
