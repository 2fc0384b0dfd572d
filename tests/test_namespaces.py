"""The machines of the tests keep what they promise: else a test of a partition would prove nothing."""

import socket
import subprocess
import sys
import time

import pytest

from tests import namespaces, processes
from tests.waiting import wait_for

pytestmark = pytest.mark.skipif(bool(namespaces.lacks()), reason=namespaces.lacks())
PORT = 7000
ECHO = f"""
import socket
with socket.create_server(("", {PORT})) as server:
    while True:
        connection, _ = server.accept()
        with connection:
            while data := connection.recv(65536):
                connection.sendall(data)
"""


@pytest.fixture
def machines():
    with namespaces.Machines() as made:
        yield made


@pytest.fixture
def echo(machines, tmp_path):
    """A machine that answers what it is told, and a connection to it from another one."""
    here, there = machines.add("a"), machines.add("b")
    started = there.start(sys.executable, "-c", ECHO, environ={}, log=tmp_path / "log")

    def connected():
        with here.inside():
            connection = socket.socket()
        connection.settimeout(processes.PATIENCE_S)
        try:
            connection.connect((there.address, PORT))
        except ConnectionError:
            connection.close()
            return None
        return connection

    with wait_for(connected, "the connection") as connection:
        yield there, connection, namespaces.program(started)
    there.kill()
    started.wait()


def asked(connection: socket.socket, text: bytes) -> float:
    """Say something, wait for the answer; return the seconds."""
    began = time.monotonic()
    connection.sendall(text)
    answer = b""
    while len(answer) < len(text):
        answer += connection.recv(65536)

    assert text == answer
    return time.monotonic() - began


def test_packets_are_delayed_in_both_directions(machines, echo):
    _there, connection, _process = echo
    machines.wire.delay_s = 0.1

    assert asked(connection, b"hello") >= 0.2


def test_a_lost_packet_is_sent_again(machines, echo):
    _there, connection, _process = echo
    machines.wire.loss = 0.05

    asked(connection, b"x" * 200_000)


def test_a_cut_is_silent_and_what_was_sent_arrives_after_it(machines, echo):
    there, connection, _process = echo
    machines.cut(there)
    connection.sendall(b"hello")
    connection.settimeout(0.3)
    with pytest.raises(TimeoutError):
        connection.recv(5)
    machines.heal()
    connection.settimeout(processes.PATIENCE_S)

    assert b"hello" == connection.recv(5)


@pytest.mark.parametrize("way", ["mute", "deafen"])
def test_packets_may_pass_in_one_direction_alone(machines, echo, way):
    there, connection, _process = echo
    getattr(machines.wire, way)(there.address)
    connection.sendall(b"hello")
    connection.settimeout(0.3)
    with pytest.raises(TimeoutError):
        connection.recv(5)
    machines.heal()
    connection.settimeout(processes.PATIENCE_S)

    assert b"hello" == connection.recv(5)


def test_a_machine_that_is_off_has_no_process(machines, echo):
    there, _connection, process = echo
    there.kill()

    assert [] == processes.living(process.pid)


def test_machines_see_neither_processes_nor_names_of_others(machines, tmp_path):
    machine = machines.add("worker-1")
    code = (
        "import os, socket; print(socket.gethostname(), len(os.listdir('/tmp')), os.getpid() < 100)"
    )
    started = machine.start(sys.executable, "-c", code, environ={}, log=tmp_path / "log")
    started.wait(processes.PATIENCE_S)

    assert "worker-1 0 True\n" == (tmp_path / "log").read_text()
    assert processes.lives(machine.pid)


def test_a_machine_ends_with_a_test_that_is_killed():
    code = "from tests import namespaces; print(namespaces.Machines().add('a').pid, flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=namespaces.ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as test:
        pid = int(test.stdout.readline())
        test.kill()

    assert [] == processes.living(pid)


@pytest.mark.skipif(not namespaces.FAKETIME.exists(), reason="libfaketime is not installed")
def test_a_clock_can_be_off(machines, tmp_path):
    code = "import time; print(time.time())"
    began = time.time()
    started = machines.add("a").start(
        sys.executable, "-c", code, environ=namespaces.later({}, 60), log=tmp_path / "log"
    )
    started.wait(processes.PATIENCE_S)

    assert 60 <= float((tmp_path / "log").read_text()) - began < 60 + processes.PATIENCE_S
