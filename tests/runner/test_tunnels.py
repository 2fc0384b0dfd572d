"""The container's side of a tunnel: it asks its node, leads bytes to the port, and to no program of others."""

import contextlib
import http.server
import os
import socket

import httpx
import pytest

from homeport.contract import codec
from homeport.contract.container import MAX_TUNNELS, Event
from homeport.node.containers import door as doors
from homeport.node.containers.tunnels import Tunnels as AtNode
from homeport.runner import tunnels as runner
from homeport.runner.report import Report
from homeport.runner.tunnels import Tunnels
from homeport.sdk.exception import ExecutionError, InvalidError
from tests import web
from tests.ports import free_port


class Node:
    """Reads a report as a node does."""

    def __init__(self, tmp_path) -> None:
        self._ours, theirs = socket.socketpair()
        self.report = Report(theirs.detach())
        self.tunnels = AtNode("ta-1", tmp_path)

    def hear(self) -> Event:
        """Handle the next event, and return it."""
        data, descriptors, _, _ = socket.recv_fds(self._ours, 65536, MAX_TUNNELS)
        (line,) = data.splitlines()
        event = codec.loads(Event, line)
        if event.kind == "tunnel":
            assert self.tunnels.open(event.tunnel, event.port, *descriptors)
        else:
            assert self.tunnels.close(event.tunnel)
        return event

    def path(self) -> str:
        """Return the path of the one open tunnel."""
        (tunnel,) = self.tunnels.all
        return doors.path(tunnel.address)

    def close(self) -> None:
        self._ours.close()
        for descriptor in self.report.descriptors():
            os.close(descriptor)


@pytest.fixture
def node(tmp_path):
    node = Node(tmp_path)
    yield node
    node.close()


@pytest.fixture
def port():
    """The port of a program of this very process."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.path.encode())

        def log_message(self, *_args):
            pass

    with web.served(Page) as server:
        yield server.server_port


def get(path: str) -> httpx.Response:
    with httpx.Client(transport=httpx.HTTPTransport(uds=path), base_url="http://x") as client:
        return client.get("/some?where", timeout=60)


def test_a_tunnel_leads_to_the_port_until_it_is_closed(node, port):
    tunnels = Tunnels(node.report)
    name = tunnels.open(port)
    event = node.hear()
    tunnels.serve(name)
    path = node.path()

    assert ("tunnel", name, port) == (event.kind, event.tunnel, event.port)
    assert "/some?where" == get(path).text
    tunnels.close(name)
    assert ("closed", name) == ((closed := node.hear()).kind, closed.tunnel)
    with socket.socket(socket.AF_UNIX) as visitor, pytest.raises(FileNotFoundError):
        visitor.connect(path)
    tunnels.close(name)


def test_a_port_without_a_program_of_the_container_is_502(node, port, monkeypatch):
    tunnels = Tunnels(node.report)
    nobody = free_port()
    name = tunnels.open(nobody)
    node.hear()
    tunnels.serve(name)
    answer = get(node.path())
    assert (502, f"homeport: no program of this container listens on port {nobody}\n") == (
        answer.status_code,
        answer.text,
    )
    tunnels.close(name)
    node.hear()
    monkeypatch.setattr(runner.ports, "ours", lambda _port: False)  # another container's program
    name = tunnels.open(port)
    node.hear()
    tunnels.serve(name)
    assert 502 == get(node.path()).status_code
    tunnels.close(name)


def test_the_same_port_twice_and_too_many_are_refused(node):
    tunnels = Tunnels(node.report)
    names = [tunnels.open(port) for port in range(1, MAX_TUNNELS + 1)]
    with pytest.raises(InvalidError, match="already forwarded"):
        tunnels.open(1)
    with pytest.raises(InvalidError, match=f"{MAX_TUNNELS} ports at once"):
        tunnels.open(1000)
    tunnels.close(names[0])
    for name in (tunnels.open(1), *names[1:]):
        tunnels.close(name)


def test_without_a_node_that_listens_it_says_why(node):
    tunnels = Tunnels(node.report)
    node._ours.close()
    with contextlib.ExitStack() as stack:
        stack.enter_context(pytest.raises(ExecutionError, match="server was restarted"))
        tunnels.open(8000)


def test_a_forked_child_cannot_forward(node, monkeypatch):
    tunnels = Tunnels(node.report)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    with pytest.raises(InvalidError, match="own process"):
        tunnels.open(8000)
