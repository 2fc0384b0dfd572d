"""The threads of a WSGI container, and the connections that they wait for."""

import errno
import os
import socket
import threading
from types import SimpleNamespace

import pytest

from homeport.runner.servers.wsgi_threads import Connections, Threads
from tests.waiting import PATIENCE_S, wait_for


class Door(socket.socket):
    """A listening socket, as the container has one."""

    is_short = False
    fails = 0  # an errno

    def accept(self):
        if self.fails:
            raise OSError(self.fails, "")
        return super().accept()


@pytest.fixture
def door(tmp_path):
    with Door(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "door"))
        listening.listen()
        listening.setblocking(False)
        yield listening


@pytest.fixture
def refused():
    return []


@pytest.fixture
def connections(door, refused):
    accepted = []

    def connected(visitor):
        accepted.append(visitor)
        return SimpleNamespace(socket=visitor)

    made = Connections(door, connected, refused.append)
    yield made
    made.stop()
    for visitor in accepted:
        visitor.close()


@pytest.fixture
def visit(door):
    """Connect to the door."""
    visitors = []

    def connect():
        visitors.append(socket.socket(socket.AF_UNIX))
        visitors[-1].connect(door.getsockname())
        return visitors[-1]

    yield connect
    for visitor in visitors:
        visitor.close()


def test_a_connection_comes_first_from_the_door_and_then_with_each_request(connections, visit):
    visitor = visit()
    connection = connections.next()
    seen = []
    for text in (b"one", b"two"):
        connections.put(connection)
        visitor.send(text)
        assert connection is connections.next()
        seen.append(connection.socket.recv(9))

    assert [b"one", b"two"] == seen


def test_one_thread_gets_a_request_and_the_others_wait_on(connections, visit):
    """Each of four threads has a request in hand before it may return one."""
    taken, done = [], threading.Event()

    def work():
        while (connection := connections.next()) is not None:
            taken.append(connection)
            done.wait(PATIENCE_S)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for count in range(1, 4):
        visit()
        wait_for(lambda count=count: len(taken) == count, "the next connection")
    assert 3 == len(set(map(id, taken)))

    done.set()
    connections.stop()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert [False] * 4 == [thread.is_alive() for thread in threads]


def test_a_request_that_is_there_at_the_end_is_still_taken(connections, visit):
    visit()
    connections.stop()

    assert connections.next() is not None
    assert connections.next() is None


def test_the_end_closes_idle_connections_and_no_other(connections, visit):
    first, second = visit(), visit()
    idle, busy = connections.next(), connections.next()
    closed = []
    for connection in (idle, busy):
        connection.close = lambda connection=connection: closed.append(connection)
    connections.put(idle)
    connections.close()

    assert [idle] == closed
    assert first is not second


def test_a_connection_that_was_closed_is_forgotten_although_a_child_has_a_copy(connections, visit):
    """A forked child of the user's code keeps each socket open; the next one gets the same number."""
    visitor = visit()
    connection = connections.next()
    number = connection.socket.fileno()
    copy = os.dup(number)
    try:
        connections.put(connection)
        visitor.send(b"x")
        assert connection is connections.next()
        other = visit()
        connection.socket.close()
        following = connections.next()
        assert number == following.socket.fileno()
        connections.put(following)
        visitor.send(b"y")  # arrives at the copy
        other.send(b"z")

        assert following is connections.next()
        assert b"z" == following.socket.recv(9)
    finally:
        os.close(copy)


def test_a_shut_door_and_one_without_descriptors_are_told_apart(
    connections, door, visit, refused, monkeypatch
):
    monkeypatch.setattr("homeport.runner.servers.wsgi_threads.PAUSE_S", 0)
    visit()
    door.fails = errno.EMFILE
    waiting = threading.Thread(target=connections.next, daemon=True)
    waiting.start()
    wait_for(lambda: errno.EMFILE in refused, "the refusal")
    door.fails = 0
    waiting.join(PATIENCE_S)
    assert not waiting.is_alive()
    assert 0 == refused[-1]

    door.fails = errno.EINVAL
    visit()
    connections.stop()
    assert connections.next() is None


class Pool(Threads):
    """Threads that only count themselves."""

    def _spawn_worker(self):
        return threading.Thread()


def test_a_thread_is_started_when_all_are_busy_and_no_more_than_there_are_slots():
    pool = Pool(None, 3, lambda: SimpleNamespace(next=lambda: "connection"))
    pool.begin()
    counts = [len(pool._threads)]
    for _ in range(4):
        worker = threading.Thread(target=pool.get)
        worker.start()
        worker.join(PATIENCE_S)
        counts.append(len(pool._threads))

    assert [1, 2, 3, 3, 3] == counts


def test_a_thread_that_takes_one_request_after_the_other_stays_alone():
    pool = Pool(None, 3, lambda: SimpleNamespace(next=lambda: "connection"))
    pool.begin()
    for _ in range(5):
        pool.get()

    assert 2 == len(pool._threads)  # itself, and one that waits


def test_a_replaced_thread_ends_when_it_comes_back():
    pool = Pool(None, 1, lambda: SimpleNamespace(next=lambda: "connection"))
    mine = threading.current_thread()
    pool._threads.append(mine)
    pool.get()
    pool.replace(mine)
    assert pool.is_replaced(mine)
    assert 1 == len(pool._threads)

    assert "connection" != pool.get()
    assert not pool.is_replaced(mine)
