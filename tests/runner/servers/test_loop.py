"""How a container's server accepts connections."""

import asyncio
import contextlib
import socket
import sys

import pytest
import uvloop

from homeport.node.containers import door as doors
from homeport.runner.door import Door
from homeport.runner.servers import loop
from tests.waiting import turns


class Visit(asyncio.Protocol):
    """Counts connections, and sends back what it receives."""

    count = 0

    def connection_made(self, transport):
        Visit.count += 1
        self._transport = transport

    def data_received(self, data):
        self._transport.write(data)


@pytest.fixture
def door():
    """A door as a node makes it, and its path."""
    Visit.count = 0
    listener, address = doors.make("ta-1")
    with Door(listener.detach()) as door:
        yield door, doors.path(address)


def test_everybody_who_waits_is_let_in_at_once_and_served(door):
    door, path = door

    async def story() -> tuple[int, bytes, bool]:
        server = loop.Entrance(door, Visit, None)
        with contextlib.ExitStack() as stack:
            visitors = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(50)]
            for visitor in visitors:
                visitor.connect(path)  # no connection is accepted before this turn ends
            await turns(10)
            inside = Visit.count
            visitors[-1].sendall(b"hello")
            heard = await asyncio.to_thread(visitors[-1].recv, 10)
            server.close()
            await server.wait_closed()
            with socket.socket(socket.AF_UNIX) as late, pytest.raises(ConnectionRefusedError):
                late.connect(path)
        return inside, heard, server.is_serving()

    with contextlib.closing(loop.new()) as made:
        inside, heard, is_open = made.run_until_complete(story())

    assert 50 == inside
    assert b"hello" == heard
    assert not is_open


def test_a_door_that_is_shut_refuses_but_lets_in_who_was_there(door):
    door, path = door

    async def story() -> int:
        loop.Entrance(door, Visit, None)
        with socket.socket(socket.AF_UNIX) as early, socket.socket(socket.AF_UNIX) as late:
            early.connect(path)
            door.shut()
            with pytest.raises(ConnectionRefusedError):
                late.connect(path)
            await turns(10)
        return Visit.count

    with contextlib.closing(loop.new()) as made:
        assert 1 == made.run_until_complete(story())


def test_a_visitor_of_another_user_is_turned_away(door):
    door, path = door
    door._uid += 1  # no user who runs this test has this id

    with socket.socket(socket.AF_UNIX) as visitor:
        visitor.connect(path)
        with pytest.raises(BlockingIOError):
            door.accept()

        assert b"" == visitor.recv(1)


@pytest.mark.parametrize("missing", ["uvloop", "nest_asyncio"])
def test_the_loop_is_asyncios_own_without_uvloop_and_with_a_package_that_patches_it(
    monkeypatch, missing
):
    if missing == "uvloop":
        monkeypatch.setitem(sys.modules, "uvloop", None)
    else:
        monkeypatch.setattr(loop, "NESTERS", ("json",))  # a package that is there
    with contextlib.closing(loop.new()) as made:
        assert isinstance(made, asyncio.SelectorEventLoop)
        assert isinstance(made, loop.Loop)


def test_the_loop_is_uvloops_elsewhere():
    with contextlib.closing(loop.new()) as made:
        assert isinstance(made, uvloop.Loop)
