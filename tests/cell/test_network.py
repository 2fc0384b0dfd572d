"""The way out of cells with a network of their own, in a network namespace that stands for the host."""

import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from homeport.cell import network
from tests.cell.conftest import SOURCE

#: In a fresh network namespace: `world` is a machine outside, `cell` two containers' networks.
STAGE = """
import json, os, socket, subprocess, sys, threading
from homeport.cell import kernel, netlink, network
from homeport.cell.base import loopback_up

def namespace():
    "A network namespace, by a descriptor."
    ours = os.open("/proc/self/ns/net", os.O_RDONLY)
    kernel.unshare(kernel.NEWNET)
    loopback_up()
    new = os.open("/proc/self/ns/net", os.O_RDONLY)
    kernel.setns(ours)
    os.close(ours)
    return new

def within(new, function):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            kernel.setns(new)
            answer = function()
        except OSError as error:
            answer = f"{type(error).__name__}: {error}"
        os.write(writer, json.dumps(answer).encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    return json.loads(open(reader).read())

def listener(new, address):
    "A server in that namespace, which answers with who asked."
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        kernel.setns(new)
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        server = socket.create_server(address, family=family)
        os.write(writer, str(server.getsockname()[1]).encode())
        while True:
            visitor, who = server.accept()
            visitor.sendall(who[0].encode())
            visitor.close()
    return child, int(os.read(reader, 10))

def ask(address):
    with socket.create_connection(address, timeout=1) as visitor:
        return visitor.recv(100).decode()

loopback_up()
host = os.open("/proc/self/ns/net", os.O_RDONLY)
world = namespace()
netlink.add_pair("out0", "out0-in")
netlink.add_address("out0", "192.0.2.1", 24)
netlink.up("out0")
netlink.move("out0-in", world, "eth0")
within(world, lambda: (netlink.add_address("eth0", "192.0.2.2", 24), netlink.up("eth0")) and None)
cells = []
for number in (0, 1):
    cable = network.Cable(number)
    network.lay(cable)
    new = namespace()
    network.plug(cable, new)
    within(new, lambda: network.connect(cable))
    cells.append((cable, new))
children = []
def serve(new, address):
    child, port = listener(new, address)
    children.append(child)
    return port
"""


def staged(code: str) -> dict[str, object]:
    """Run the code in network namespaces of its own, and return what it prints."""
    if os.geteuid() != 0:
        pytest.skip("only root may make a network that stands for the host")
    for program in ("nft", "unshare"):
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program}")
    ending = "\nfor child in children: os.kill(child, 9); os.waitpid(child, 0)\n"
    words = ["unshare", "--net", "--mount", sys.executable, "-c", STAGE + code + ending]
    done = subprocess.run(
        words,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "" == done.stderr
    return json.loads(done.stdout)


def test_a_cable_leads_to_the_world_and_to_nobody_else():
    told = staged("""
network.open_gate()
outside, inside = serve(world, ("0.0.0.0", 0)), serve(host, ("0.0.0.0", 0))
neighbour = serve(cells[1][1], ("0.0.0.0", 0))
(one, new), (two, _) = cells
print(json.dumps({
    "world": within(new, lambda: ask(("192.0.2.2", outside))),
    "gateway": within(new, lambda: ask((one.gateway, inside))),
    "host": within(new, lambda: ask(("192.0.2.1", inside))),
    "neighbour": within(new, lambda: ask((two.address, neighbour))),
    "from outside": within(world, lambda: (netlink.add_default_route("eth0", "192.0.2.1"), ask((two.address, neighbour)))[1]),
    "from the host": within(host, lambda: ask((two.address, neighbour))),
}))
""")

    assert "192.0.2.1" == told["world"]  # masqueraded
    for target in ("gateway", "host", "neighbour", "from outside"):
        assert "TimeoutError" in str(told[target]), target
    assert "10.201.0.2" == told["from the host"]


def test_a_cell_with_the_hosts_network_does_not_get_the_clouds_credentials():
    """They are at a link-local address; a resolver may be there, too."""
    told = staged("""
"a".encode("idna")  # a part of the interpreter that only root may read, perhaps
netlink.add_address("lo", "169.254.169.254", 32)
web, dns = serve(host, ("169.254.169.254", 80)), serve(host, ("169.254.169.254", 53))
usual = serve(host, ("127.0.0.1", 0))
def everything():
    def reached(address):
        try:
            return bool(ask(address))
        except OSError:
            return False
    return [reached(a) for a in (("169.254.169.254", 80), ("169.254.169.254", 53), ("127.0.0.1", usual))]
def as_user(user):
    def ask_all():
        os.setgid(user)
        os.setuid(user)
        return everything()
    return within(host, ask_all)
before = as_user(network.FIRST_ID)
network.guard()
print(json.dumps([before, as_user(network.FIRST_ID), as_user(network.FIRST_ID + 65535), as_user(1000)]))
""")

    everything, without = [True, True, True], [False, True, True]
    assert [everything, without, without, everything] == told


def test_no_cloud_tells_a_cell_its_credentials():
    """Neither a cell with the host's network, nor one with a cable."""
    told = staged("""
addresses = ["169.254.169.254", "100.100.100.200", "168.63.129.16"]
for address in addresses:
    netlink.add_address("lo", address, 32)
for address in ("fd00:ec2::254", "fd20:ce::254"):
    words = ["ip", "-6", "address", "add", f"{address}/128", "dev", "lo", "nodad"]
    if not subprocess.run(words, capture_output=True).returncode:  # this machine has IPv6, and the program
        addresses.append(address)
for address in addresses:
    serve(host, (address, 80))
def reached():
    found = []
    for address in addresses:
        try:
            found.append(ask((address, 80)) != "")
        except OSError:
            found.append(False)
    return found
def as_cell():
    os.setgid(network.FIRST_ID)
    os.setuid(network.FIRST_ID)
    return reached()
"a".encode("idna")  # a part of the interpreter that only root may read, perhaps
before = within(host, as_cell)
network.guard()
print(json.dumps([before, within(host, as_cell)]))
""")

    assert [[True] * len(told[0]), [False] * len(told[0])] == told
    assert 3 <= len(told[0])


def test_a_cell_with_a_cable_neither_reaches_link_local_addresses_nor_sends_in_the_name_of_others():
    told = staged("""
network.open_gate()
within(world, lambda: [netlink.add_address("eth0", address, 32) for address in ("169.254.1.1", "203.0.113.9")] and None)
netlink.add_default_route("out0", "192.0.2.2")
ports = serve(world, ("169.254.1.1", 0)), serve(world, ("203.0.113.9", 0))
new = cells[0][1]
def send(source):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind((source, 0))
        sender.sendto(source.encode(), ("192.0.2.2", 5353))
def heard():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("192.0.2.2", 5353))
        kernel.setns(new)
        netlink.add_address("eth0", "198.51.100.7", 32)
        send("198.51.100.7")
        send(cells[0][0].address)  # after the other one, on the same cable
        receiver.settimeout(20)
        return receiver.recv(100).decode()
print(json.dumps({
    "other": within(new, lambda: ask(("203.0.113.9", ports[1]))),
    "link-local": within(new, lambda: ask(("169.254.1.1", ports[0]))),
    "heard": within(world, heard),
}))
""")

    assert "192.0.2.1" == told["other"]  # masqueraded
    assert "TimeoutError" in told["link-local"]
    assert "10.201.0.1" == told["heard"]


def test_without_the_firewall_a_cell_reaches_the_host():
    """This proves that the test above can fail."""
    told = staged("""
inside = serve(host, ("0.0.0.0", 0))
print(json.dumps(within(cells[0][1], lambda: ask((cells[0][0].gateway, inside)))))
""")

    assert "10.201.0.1" == told


def test_the_firewall_may_be_set_up_again():
    assert staged("network.open_gate(); network.open_gate(); print(1)")


def test_each_cable_has_addresses_of_its_own():
    cables = [network.Cable(number) for number in (0, 1, 32767)]

    assert ["10.201.0.0", "10.201.0.2", "10.201.255.254"] == [c.gateway for c in cables]
    assert ["10.201.0.1", "10.201.0.3", "10.201.255.255"] == [c.address for c in cables]


def test_the_helper_never_opens_the_hosts_loopback_and_no_port(tmp_path, monkeypatch):
    spaces = ("/proc/7/ns/net", "/proc/7/ns/user")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert network.helper(*spaces) is None
    (tmp_path / "slirp4netns").touch(mode=0o755)
    assert {"--disable-host-loopback", f"--userns-path={spaces[1]}"} <= {*network.helper(*spaces)}
    (tmp_path / "pasta").touch(mode=0o755)
    words = network.helper(*spaces)

    assert str(tmp_path / "pasta") == words[0]
    assert {"--no-map-gw", "--ipv4-only"} <= {*words}  # the rules of the firewall are for IPv4, too
    after = dict(itertools.pairwise(words))
    assert ["none"] * 4 == [after[f"-{ports}"] for ports in "tuTU"]
    assert [*spaces] == [after["--netns"], after["--userns"]]


def test_a_helper_gives_an_ordinary_users_cell_a_way_out(account):
    if account.user == 0:
        pytest.skip("root has cables")
    if shutil.which("pasta") is None:
        pytest.skip("there is no pasta")
    if "\t00000000\t" not in Path("/proc/net/route").read_text():
        pytest.skip("this machine has no way out itself")
    code = """
import json, os, selectors, socket, subprocess, time
from homeport.cell import base, namespaces, network
from homeport.cell.description import Network
with socket.create_server(("127.0.0.1", 0)) as listener:
    port = listener.getsockname()[1]
    reader, writer = os.pipe()
    child = namespaces.fork(Network.OWN, None)
    if child == 0:
        base.loopback_up()
        os.read(reader, 1)
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as events:
            events.bind((0, 0x40))  # RTMGRP_IPV4_ROUTE
            events.settimeout(20)
            while not any(line.split()[1] == "0" * 8 for line in open("/proc/net/route").readlines()[1:]):
                events.recv(4096)
        try: told = socket.create_connection(("127.0.0.1", port), timeout=2) and "connected"
        except OSError as error: told = type(error).__name__
        print(json.dumps([[name for _, name in socket.if_nameindex()], told]), flush=True)
        os._exit(0)
    words = network.helper(f"/proc/{child}/ns/net", f"/proc/{child}/ns/user")
    helper = subprocess.Popen(words)
    os.write(writer, b".")
    os.waitpid(child, 0)
    helper.kill()
    helper.wait()
"""
    finished = account.run(["-c", code])
    names, told = json.loads(finished.stdout)

    assert 2 == len(names)
    assert "ConnectionRefusedError" == told


#: After `pivot_root`, an import would find the image's modules.
LATE = """
import contextlib, sys
from homeport.cell import base
sys.meta_path.clear()
with contextlib.suppress(PermissionError):
    base.loopback_up()
"""


def test_the_network_of_a_cell_is_set_up_without_a_module_of_the_image():
    subprocess.run([sys.executable, "-c", LATE], check=True)
