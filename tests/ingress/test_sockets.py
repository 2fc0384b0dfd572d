"""The socket by which containers reach the ingress: it answers through every change of HAProxy and of the server."""

import asyncio
import contextlib
import os
import signal
import stat

import httpx
import pytest

from homeport.contract.errors import IngressError
from homeport.ingress.haproxy import HAProxy
from homeport.ingress.peer import PeerPort
from homeport.ingress.process import Process
from homeport.ingress.sockets import Doorway
from homeport.link import identity
from tests.ingress.conftest import POOL, abandoned, routed
from tests.waiting import until


async def ask(path) -> bytes:
    """The status line of an answer."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    writer.write(b"GET / HTTP/1.1\r\nHost: any\r\nConnection: close\r\n\r\n")
    async with asyncio.timeout(60):
        line = await reader.readline()
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return line.strip()


async def test_containers_reach_the_ingress_and_find_nothing_else(ingress, make_settings):
    path = make_settings().calls_socket
    assert b"HTTP/1.1 404 Not Found" == await ask(path)

    assert [path] == list(path.parent.iterdir())
    assert (0o755, 0o666) == tuple(stat.S_IMODE(p.stat().st_mode) for p in (path.parent, path))


async def test_the_socket_answers_after_a_reload_and_after_a_crash(ingress, make_settings):
    path = make_settings().calls_socket
    inode = path.stat().st_ino
    await ingress._supervisor.reload()
    assert b"404" in await ask(path)
    before = ingress.pid
    os.kill(before, signal.SIGKILL)

    assert b"404" in await ask(path)  # it waits in the kernel meanwhile
    await until(lambda: ingress.pid not in {0, before}, "another process")
    assert inode == path.stat().st_ino


async def test_the_next_server_has_a_socket_in_the_same_directory(make_settings):
    settings = make_settings()
    directory = settings.calls_socket.parent
    first = HAProxy(settings, tied=True)
    await first.open()
    await first.start()
    seen = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)  # as a container's mount has it
    try:
        await first.close()
        assert [] == os.listdir(seen)
        second = HAProxy(settings, tied=True)
        await second.open()
        await second.start()
        try:
            assert b"404" in await ask(f"/proc/self/fd/{seen}/calls.sock")
        finally:
            await second.close()
    finally:
        os.close(seen)


@pytest.fixture
def asked_after(monkeypatch):
    """Statuses at a socket, each as a container met it when an earlier process had just stopped to listen."""
    statuses: list[bytes] = []
    deaf = Process.deaf

    def at(path) -> list[bytes]:
        async def and_then(process: Process) -> None:
            await deaf(process)
            statuses.append(await ask(path))

        monkeypatch.setattr(Process, "deaf", and_then)
        return statuses

    return at


async def test_containers_reach_the_next_server_before_an_earlier_one_stops_to_listen(
    make_settings, asked_after
):
    settings = make_settings()
    left, fresh = (HAProxy(settings, tied=False) for _ in range(2))
    await left.open()
    await left.start()
    await abandoned(left)
    statuses = asked_after(settings.calls_socket)
    await fresh.open()
    await fresh.start()
    await fresh.close()

    assert [b"HTTP/1.1 404 Not Found"] == statuses
    assert not left._supervisor._process.running


async def test_containers_reach_the_next_agent_before_an_earlier_one_stops_to_listen(
    machine, asked_after
):
    await machine.port.towards("127.0.0.1", 1, 0)
    machine.port._supervisor.end_retired()
    left = machine.port._supervisor._process
    await machine.port.leave()
    statuses = asked_after(machine.settings.calls_socket)
    machine.port = PeerPort(machine.settings, identity.CONTROL)
    await machine.port.open()
    await machine.port.start()
    left.kill()

    assert [b"HTTP/1.1 503 Service Unavailable"] == statuses


async def test_a_container_reaches_urls_as_a_stranger(ingress, upstream, make_settings):
    path = make_settings().urls_socket
    one = await upstream("one")
    await routed(ingress, hosts=("hello.localhost",))
    await ingress.attach(POOL, "one", one.address, 1)
    transport = httpx.AsyncHTTPTransport(uds=str(path))
    async with httpx.AsyncClient(transport=transport) as container:
        told = (await container.get("http://hello.localhost:4663/a")).json()
        metrics = await container.get("http://localhost:4663/metrics")

    assert ("one", "/a") == (told["name"], told["path"])
    assert "127.0.0.1" == told["headers"]["x-forwarded-for"]
    assert "4663" == told["headers"]["x-forwarded-port"]
    assert 404 == metrics.status_code


def test_a_server_that_does_not_come_up_leaves_the_socket_of_the_one_before(tmp_path):
    path = tmp_path / "calls/calls.sock"
    first, second = Doorway(path), Doorway(path)
    first.open()
    first.show()
    inode = path.stat().st_ino
    second.open()
    second.close()

    assert inode == path.stat().st_ino
    first.close()
    assert not list(tmp_path.rglob("*.sock"))


def test_a_path_where_nobody_can_listen_is_an_error(tmp_path):
    with pytest.raises(IngressError, match="cannot listen"):
        Doorway(tmp_path / ("x" * 200) / "calls.sock").open()
