"""The door still works when the user's code has used every descriptor."""

import contextlib
import errno
import os
import socket
import subprocess
import sys

import pytest

from homeport.node.containers import door as doors
from homeport.runner.door import Door

SERVER = """
import asyncio, concurrent.futures.thread, contextlib, os, resource, sys
from homeport.contract.pulse import Pulse
from homeport.runner.servers import loop
from homeport.runner.door import Door

door, pulse = Door(int(sys.argv[1])), Pulse(int(sys.argv[2]))

class Visit(asyncio.Protocol):
    takes_only_one = False
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        self.transport.write(b"short" if self.takes_only_one else b"roomy")
        if self.takes_only_one:
            self.transport.close()

async def main():
    loop.Entrance(door, Visit, pulse)
    taken = []
    with contextlib.suppress(OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        while len(sys.argv) > 3:
            taken.append(os.open("/dev/null", os.O_RDONLY))
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    for each in taken:
        os.close(each)
    print("free", flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.fixture
def knock():
    """Start a server that has taken every descriptor; what a visitor hears, and how to free them."""
    from homeport.contract import pulse

    listener, address = doors.make("ta-1")
    page = pulse.create()
    with listener, contextlib.closing(pulse.Reader(page)) as reader:
        numbers = (listener.fileno(), page)
        server = subprocess.Popen(
            [sys.executable, "-c", SERVER, *map(str, numbers), "greedy"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=numbers,
        )
        try:
            assert "ready\n" == server.stdout.readline()

            def ask() -> bytes:
                with socket.socket(socket.AF_UNIX) as visitor:
                    visitor.settimeout(10)
                    visitor.connect(doors.path(address))
                    visitor.sendall(b"?")
                    return visitor.recv(5)

            yield ask, server, reader
        finally:
            server.kill()
            server.communicate()
            os.close(page)


def test_visitors_are_let_in_one_after_the_other_without_any_descriptor(knock):
    ask, _, reader = knock

    assert [b"short"] * 3 == [ask() for _ in range(3)]
    assert 24 == reader.read().refused


def test_a_door_that_has_descriptors_again_is_as_before(knock):
    ask, server, reader = knock
    assert b"short" == ask()
    server.stdin.write("\n")
    server.stdin.flush()
    assert "free\n" == server.stdout.readline()
    ask()  # the descriptor with which it notices

    assert b"roomy" == ask()
    assert 0 == reader.read().refused


#: In a process of its own, because it becomes another user for each visit.
VISITS = """
import contextlib, os, socket, sys
from homeport.node.containers import door as doors
from homeport.runner.door import Door

listener, address = doors.make("ta-1")
door = Door(listener.detach())
for user in (0, 1, 65534):
    with socket.socket(socket.AF_UNIX) as visitor:
        os.setresuid(-1, user, -1)  # the user at the time of the connection counts (man 7 unix)
        visitor.connect(doors.path(address))
        os.setresuid(-1, 0, -1)
        visitor.settimeout(10)
        with contextlib.suppress(BlockingIOError):
            door.accept()[0].send(b"in")
        print(visitor.recv(2).decode() or "out")
"""


@pytest.mark.skipif(os.getuid() != 0, reason="root alone may visit as somebody else")
def test_a_door_that_everybody_may_knock_at_lets_in_its_own_user_alone():
    asked = [sys.executable, "-c", VISITS]
    told = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()

    assert ["in", "out", "out"] == told


def test_a_door_that_is_shut_says_so_once_its_queue_is_empty():
    """The kernel says only that there is no connection now, and that the door is readable."""
    listener, address = doors.make("ta-2")
    door = Door(listener.detach())
    door.setblocking(False)
    with pytest.raises(BlockingIOError):
        door.accept()
    with socket.socket(socket.AF_UNIX) as visitor:
        visitor.connect(doors.path(address))
        door.shut()
        door.accept()[0].close()
        with pytest.raises(OSError, match="the door is shut") as refused:
            door.accept()
    door.close()

    assert errno.EINVAL == refused.value.errno
