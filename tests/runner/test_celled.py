"""What a container's first process does in its cell, as far as it needs none."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from homeport.node.held import Held
from homeport.runner import celled
from tests import isolation

LEAVING = """
import os, socket, sys
from homeport.cell import kernel
from homeport.runner import celled
if os.geteuid():
    kernel.unshare(kernel.NEWUSER)
before = len(os.listdir("/proc/self/fd"))
celled._leave_network([int(sys.argv[1])])
assert before - 1 == len(os.listdir("/proc/self/fd")), "the user's code would get a descriptor"
server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(server.getsockname())
"""


def test_the_names_of_its_own_app_lead_to_the_containers_own_loopback(monkeypatch):
    written = {}
    monkeypatch.setattr(celled, "_replace", written.__setitem__)
    celled._name(["a.localhost", "b.localhost"], "nameserver 192.0.2.1\n")
    celled._name([], "")

    before = Path("/etc/hosts").read_text()
    assert {
        "/etc/hosts": f"{before}\n127.0.0.1 a.localhost b.localhost\n",
        "/etc/resolv.conf": "nameserver 192.0.2.1\n",
    } == written


def test_a_replaced_file_is_another_one(tmp_path):
    path, before = tmp_path / "hosts", tmp_path / "before"
    path.write_text("old")
    before.hardlink_to(path)
    celled._replace(str(path), "new")
    celled._replace(str(tmp_path / "absent"), "made")

    assert ("old", "new", "made") == tuple(
        file.read_text() for file in (before, path, tmp_path / "absent")
    )


@pytest.mark.parametrize(
    ("answer", "code", "text"),
    [
        (b"{}", 0, ""),
        (b'{"error": "no cable"}', 1, "this container gets no network: no cable\n"),
        (b"", 1, "this container gets no network: the node has ended\n"),
    ],
)
def test_a_container_hands_its_new_network_to_the_node_and_waits_for_the_answer(answer, code, text):
    isolation.needed("network")
    node, way = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    words = [sys.executable, "-c", LEAVING, str(way.fileno())]
    with subprocess.Popen(words, pass_fds=[way.fileno()], stderr=subprocess.PIPE) as container:
        way.close()
        with node:
            node.settimeout(60)
            network, handle = socket.recv_fds(node, 1, 2)[1]
            handed, its_own = os.fstat(network), os.stat(f"/proc/{container.pid}/ns/net")
            os.close(network)
            process = Held.sent(handle)
            process.close()
            if answer:
                node.send(answer)
        printed = container.communicate(timeout=60)[1].decode()

    assert container.pid == process.pid
    assert its_own.st_ino == handed.st_ino != Path("/proc/self/ns/net").stat().st_ino
    assert (code, text) == (container.returncode, printed)
