"""Who listens on a port: a program of the container, another one, or nobody knows."""

import resource
import socket
import subprocess
import sys

import pytest

from homeport.runner import ways
from homeport.runner.servers import port
from tests.ports import free_port


@pytest.fixture
def other():
    """A program that this one did not start from below an init: the number of its port."""
    listen = "import socket; s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); input()"
    words = [sys.executable, "-c", listen]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as begun:
        yield int(begun.stdout.readline())
        begun.stdin.close()


@pytest.fixture
def mine():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_a_port_is_the_containers_if_one_of_its_own_processes_listens(mine, other):
    assert port.ours(mine)
    assert not port.ours(other)
    assert not port.ours(free_port())


def test_each_port_that_has_a_listener_is_the_containers_in_a_network_of_its_own(
    other, monkeypatch
):
    monkeypatch.setattr(ways, "_target", "/run/urls.sock")

    assert port.ours(other)
    assert not port.ours(free_port())


def test_a_program_listens_until_it_is_known_that_it_does_not(mine):
    unused = free_port()
    before = port.listens(mine), port.listens(unused)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        without_descriptors = port.listens(mine), port.listens(unused)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert (True, False) == before
    assert (True, True) == without_descriptors
