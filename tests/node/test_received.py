"""A descriptor that a container has sent is closed without waiting for the container."""

import contextlib
import os
import socket
import struct
from collections.abc import Iterator

import pytest

from homeport.node import received
from tests.waiting import wait_for

LINGER = struct.pack("ii", 1, 3600)  # `close` waits so many seconds


@contextlib.contextmanager
def lingering() -> Iterator[int]:
    """Yield a socket with bytes that its peer does not take; a usual `close` would wait for an hour."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        sender = socket.create_connection(server.getsockname())
        taker, _ = server.accept()
        with taker:
            sender.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    sender.send(b"x" * 65536)
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER)
            yield sender.detach()


def is_open(descriptor: int) -> bool:
    return os.path.lexists(f"/proc/self/fd/{descriptor}")


def test_a_socket_that_lingers_is_closed_at_once():
    with lingering() as descriptor:
        received.close([descriptor])
        wait_for(lambda: not is_open(descriptor), "the end of the socket")


@pytest.mark.parametrize("count", [1, 3])
def test_a_socket_that_waits_in_the_queue_of_another_one_holds_nobody_up(count):
    with lingering() as descriptor:
        ours, theirs = socket.socketpair()
        socket.send_fds(theirs, [b"x"], [descriptor] * count)
        os.close(descriptor)
        theirs.close()
        received.close([ours.detach()])
        # Here the peer is closed, so that the thread ends.


def test_descriptors_that_are_no_sockets_are_closed_too(tmp_path):
    descriptors = [os.open(tmp_path, os.O_RDONLY), os.memfd_create("x")]
    received.close(descriptors)
    wait_for(lambda: not any(map(is_open, descriptors)), "the end")
