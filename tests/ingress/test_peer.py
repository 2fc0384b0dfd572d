"""Containers of another machine: the ingress's HAProxy, mTLS, the other machine's HAProxy, and its containers."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import ssl
import time

import pytest
from aiohttp import web
from cryptography import x509

from homeport.contract.errors import NodeLost
from homeport.contract.traffic import PoolKey
from homeport.ingress import arriving, containers, elsewhere, runtime
from homeport.ingress.haproxy import HAProxy
from homeport.ingress.peer import PeerPort
from homeport.link import authority, identity
from homeport.link.authority import Authority
from homeport.link.identity import Identity
from tests.ingress.conftest import POOL, routed
from tests.ingress.machines import A, B, pair
from tests.waiting import until
from tests.web import end


@pytest.fixture
async def url(ingress, machine):
    """The URL of an endpoint whose containers may be on the machine `a`."""
    await ingress.peer("a", machine.peer)
    return await routed(ingress)


async def attached(ingress, machine, container, slots: int = 1) -> None:
    """Let the ingress reach a container of the machine."""
    known = dict(machine.port._servers.values())
    known = {label: address.replace("unix@", "unix:") for label, address in known.items()}
    await machine.port.lead(known | {container.name: container.address})
    await ingress.attach(POOL, container.name, f"peer:a/{container.name}", slots)


def serial(pem: bytes) -> int:
    """Return the number of the certificate in a pair."""
    return x509.load_pem_x509_certificate(authority.certificate_of(pem)).serial_number


async def shown(port: HAProxy | PeerPort, path: str) -> int:
    """Return the number of the certificate that a HAProxy shows in place of the one in this file."""
    answer = await port._supervisor.runtime.ask(("show", "ssl", "cert", path))
    return int(re.search(r"^Serial: ([0-9A-F]+)$", answer, re.MULTILINE)[1], 16)


async def test_a_request_reaches_a_container_of_another_machine_and_is_the_same_as_here(
    ingress, machine, url, upstream, visitor
):
    here, there = await upstream("ta-here"), await upstream("ta-there")
    await ingress.attach(POOL, "ta-here", here.address, 1)
    here_seen = (await visitor.get(f"{url}/a%2Fb?c=d")).json()
    await ingress.drain(POOL, "ta-here")
    await attached(ingress, machine, there)
    there_seen = (await visitor.get(f"{url}/a%2Fb?c=d")).json()
    posted = await visitor.post(url, content=os.urandom(3_000_000))

    assert ("ta-here", "ta-there") == (here_seen["name"], there_seen["name"])
    assert 200 == posted.status_code
    for seen in (here_seen, there_seen):
        del seen["name"], seen["headers"]["x-request-id"]
    assert here_seen == there_seen


async def test_slots_of_containers_elsewhere_are_counted_by_the_one_ingress(
    ingress, machine, url, upstream, visitor
):
    one, two, here = [await upstream(name) for name in ("ta-1", "ta-2", "ta-3")]
    await attached(ingress, machine, one, slots=2)
    await attached(ingress, machine, two)
    await ingress.attach(POOL, "ta-3", here.address, 1)
    for each in (one, two, here):
        each.release.clear()
    asked = [asyncio.create_task(visitor.get(url)) for _ in range(8)]
    await until(lambda: (2, 1, 1) == (one.inside, two.inside, here.inside), "all slots")
    load = (await ingress.load([POOL]))[POOL]
    for each in (one, two, here):
        each.release.set()
    answers = await asyncio.gather(*asked)

    assert (4, 4) == (load.running, load.queued)
    assert {200} == {answer.status_code for answer in answers}
    assert (2, 1, 1) == (one.most, two.most, here.most)


async def test_containers_come_and_go_without_another_process_and_each_gets_its_own_requests(
    ingress, machine, url, upstream, visitor
):
    pid, front = machine.port.pid, ingress.pid
    for number in range(10):
        container = await upstream(f"ta-{number}")
        await attached(ingress, machine, container)
        assert container.name == (await visitor.get(url)).json()["name"]
        await ingress.lose(POOL, container.name)
        await container.close()
        await machine.port.lead({})
        await until_detached(ingress, container.name)

    assert (pid, front) == (machine.port.pid, ingress.pid)


async def until_detached(ingress, container: str) -> None:
    async def detached() -> bool:
        return await ingress.detach(POOL, container) is not None

    await until(detached, "the container to be detached")


async def test_an_unknown_container_or_machine_is_nobody_else(
    ingress, machine, url, upstream, visitor
):
    one = await upstream("ta-1")
    await machine.port.lead({"ta-1": one.address})
    await ingress.attach(POOL, "ta-2", "peer:a/ta-2", 1)

    assert 503 == (await visitor.get(url)).status_code
    assert [] == one.paths
    with pytest.raises(NodeLost, match="`b` is not connected"):
        await ingress.attach(POOL, "ta-3", "peer:b/ta-3", 1)
    for address in ("peer:a/../x", "peer:a/x y", "peer:A/x", "peer:a/x;y"):
        with pytest.raises(ValueError, match="not an address"):
            await ingress.attach(POOL, "ta-3", address, 1)


async def test_another_node_cannot_stand_in(ingress, machine, url, upstream, visitor, ca):
    one = await upstream("ta-1")
    await attached(ingress, machine, one)
    assert 200 == (await visitor.get(url)).status_code
    again = Identity(name="a", id="c" * 32)
    for node in (B, again):
        await machine.port.renewed(pair(ca, node))
        one.paths.clear()
        await until(lambda: down(ingress), "the machine to be down")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await visitor.get(url)
        assert [] == one.paths
    await machine.port.renewed(pair(ca, A))

    assert 200 == (await visitor.get(url)).status_code


async def down(ingress) -> bool:
    rows = await ingress._supervisor.runtime.stats(["peers"])
    return ["DOWN"] == [row.status for row in rows if row.server == "a"]


def hello(machine, context: ssl.SSLContext, name: str) -> bytes:
    """Connect to the machine as somebody; return the first bytes of the answer to a request, empty if it is refused."""
    with (
        contextlib.suppress(ssl.SSLError, ConnectionError),
        socket.create_connection(("127.0.0.1", machine.port.port), 5) as plain,
        context.wrap_socket(plain, server_hostname=name) as secured,
    ):
        secured.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        return secured.recv(15)
    return b""


async def test_the_port_is_for_the_control_plane_alone(machine, ca, upstream, tmp_path):
    one = await upstream("ta-1")
    await machine.port.lead({"ta-1": one.address})
    other = Authority(tmp_path / "other")
    other.open()
    files = {"b.pem": pair(ca, B), "own.pem": pair(ca, A), "other.pem": other.pair.read_bytes()}
    for name, text in files.items():
        (tmp_path / name).write_bytes(text)
    strangers = [None, *(tmp_path / name for name in files)]
    for client in strangers:
        context = identity.of_node(ca.certificate, client)
        assert b"" == await asyncio.to_thread(hello, machine, context, f"ta-1.{A.host}")
    assert [] == one.paths
    context = identity.of_node(ca.certificate, ca.pair)

    assert b"HTTP/1.1 200 OK" == await asyncio.to_thread(hello, machine, context, f"TA-1.{A.host}")
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    assert b"" == await asyncio.to_thread(hello, machine, old, f"ta-1.{A.host}")


async def test_a_machine_that_stops_costs_a_request_a_second_at_most(
    ingress, machine, url, upstream, visitor
):
    here, *there = [await upstream(f"ta-{number}") for number in range(5)]
    await ingress.attach(POOL, here.name, here.address, 1000)
    for container in there:
        await attached(ingress, machine, container, slots=1000)
    await visitor.get(url)
    os.kill(machine.port.pid, signal.SIGSTOP)  # connections wait in the kernel, as in a partition
    took, statuses = [], []
    end = time.monotonic() + 3
    while time.monotonic() < end:
        began = time.monotonic()
        statuses.append((await visitor.get(url, headers={"Connection": "close"})).status_code)
        took.append(time.monotonic() - began)
    os.kill(machine.port.pid, signal.SIGCONT)

    assert {200} == set(statuses)
    assert max(took) < 1.5
    assert len([one for one in took if one > 0.3]) <= 4
    await until(lambda: used(there, visitor, url), "the machine to be used again")


async def used(there, visitor, url) -> bool:
    before = sum(len(container.paths) for container in there)
    await visitor.get(url)
    return before < sum(len(container.paths) for container in there)


async def test_haproxy_that_is_killed_there_is_replaced_and_requests_wait(
    ingress, machine, url, upstream, visitor
):
    one = await upstream("ta-1")
    await attached(ingress, machine, one)
    before = machine.port.pid
    # What is sent on a connection to the dead process is lost with that, so the next request has one of its own.
    assert 200 == (await visitor.get(url, headers={"Connection": "close"})).status_code
    os.kill(before, signal.SIGKILL)
    answer = await visitor.get(url)

    # The next process answers before it is known that it listens.
    await until(lambda: machine.port.pid not in (0, before), "the next process")
    assert 200 == answer.status_code


async def test_the_next_agent_takes_the_port_over_while_requests_go_on(
    ingress, machine, url, upstream, visitor
):
    one = await upstream("ta-1")
    await attached(ingress, machine, one, slots=100)
    one.release.clear()
    inside = asyncio.create_task(visitor.get(url))
    await until(lambda: one.inside == 1, "a request inside")
    old = machine.port._supervisor._process
    await machine.port.leave()
    next_port = PeerPort(machine.settings, identity.CONTROL)
    port = await next_port.open()
    await next_port.lead({"ta-1": one.address})
    await next_port.start()
    fresh = asyncio.create_task(visitor.get(url))
    await until(lambda: one.inside == 2, "another one")
    one.release.set()
    answers = [await inside, await fresh]
    machine.port = next_port
    old.kill()

    assert port == machine.peer.port
    assert [200, 200] == [answer.status_code for answer in answers]


async def test_certificates_are_renewed_at_both_ends_without_another_process(
    ingress, machine, url, upstream, visitor, ca
):
    one = await upstream("ta-1")
    await attached(ingress, machine, one, slots=10)
    pids = ingress.pid, machine.port.pid
    one.release.clear()
    inside = asyncio.create_task(visitor.get(url))
    await until(lambda: one.inside == 1, "a request inside")
    of_machine = pair(ca, A)
    await machine.port.renewed(of_machine)
    ca.renew()
    await ingress.peer_certificate(ca.pair.read_text())
    one.release.set()

    assert 200 == (await inside).status_code
    assert 200 == (await visitor.get(url, headers={"Connection": "close"})).status_code
    assert pids == (ingress.pid, machine.port.pid)
    assert serial(of_machine) == await shown(machine.port, arriving.PAIR)
    assert serial(ca.pair.read_bytes()) == await shown(ingress, elsewhere.PAIR)


async def test_a_machine_that_is_removed_gets_no_request_any_more(
    ingress, machine, url, upstream, visitor
):
    one, here = await upstream("ta-1"), await upstream("ta-2")
    await attached(ingress, machine, one)
    await ingress.attach(POOL, "ta-2", here.address, 100)
    await ingress.peer("a", None)
    one.paths.clear()
    answers = [await visitor.get(url) for _ in range(10)]
    await ingress.lose(POOL, "ta-1")
    await until_detached(ingress, "ta-1")

    assert {"ta-2"} == {answer.json()["name"] for answer in answers}
    assert [] == one.paths


async def test_a_machine_with_the_only_containers_of_several_functions_is_removed_by_one_reload(
    ingress, machine, url, upstream, caplog
):
    """Each of them leads its requests away, and the process refuses to hear the same change twice."""
    one = await upstream("ta-1")
    for number in range(3):
        pool = PoolKey("shop", f"f{number}", "rv-1")
        await machine.port.lead({f"ta-{each}": one.address for each in range(number + 1)})
        await ingress.attach(pool, f"ta-{number}", f"peer:a/ta-{number}", 1)
    generation = ingress._supervisor._generation
    await ingress.peer("a", None)

    assert generation + 1 == ingress._supervisor._generation
    assert "another process takes over" not in caplog.text


async def test_a_machine_may_move(ingress, machine, url, upstream, visitor):
    one = await upstream("ta-1")
    await attached(ingress, machine, one)
    await machine.port.close()
    machine.port = PeerPort(machine.settings, identity.CONTROL)
    await machine.open()
    await machine.port.lead({"ta-1": one.address})
    await ingress.peer("a", machine.peer)

    assert "ta-1" == (await visitor.get(url)).json()["name"]


async def test_a_reload_waits_until_the_process_before_accepts_nothing(machine):
    """Else that process would say of new containers that nobody is there."""
    before = machine.port.pid
    os.kill(before, signal.SIGSTOP)  # as if it had no turn on a busy machine
    try:
        reload = asyncio.create_task(machine.port._supervisor.reload())
        await until(lambda: machine.port.pid != before, "another process")
        done, _ = await asyncio.wait({reload}, timeout=0.1)
    finally:
        os.kill(before, signal.SIGCONT)
    await reload

    assert not done


async def test_more_containers_than_the_supply_has(machine, upstream, ca):
    """Those that are asked have a socket each: the backlog of one socket has no room for the checks of 200 servers at once."""
    last, nobody = 199, "abstract:homeport-nobody"
    addresses = {number: (await upstream(f"ta-{number}")).address for number in (0, 63, 64, last)}
    containers = {f"ta-{number}": addresses.get(number, nobody) for number in range(last + 1)}
    await machine.port.lead(containers)
    context = identity.of_node(ca.certificate, ca.pair)

    for number in addresses:
        name = f"ta-{number}.{A.host}"
        assert b"HTTP/1.1 200 OK" == await asyncio.to_thread(hello, machine, context, name)


async def test_a_request_that_comes_after_its_container_has_ended_goes_to_the_next_one(
    ingress, machine, url, upstream, visitor
):
    """Nobody has heard of the end yet, and the machine's HAProxy has accepted the connection."""
    for number in range(3):
        ended, following = await upstream(f"ta-ended-{number}"), await upstream(f"ta-{number}")
        await attached(ingress, machine, ended, slots=10)
        await ended.close()
        bodies = [b"x" * 1000 * size for size in range(10)]
        asked = [asyncio.create_task(visitor.post(url, content=body)) for body in bodies]
        await until(lambda: running(ingress, 10), "the requests to be on their way")
        await attached(ingress, machine, following, slots=10)
        await ingress.lose(POOL, ended.name)
        answers = await asyncio.gather(*asked)
        await machine.port.lead({})
        await ingress.lose(POOL, following.name)
        await until_detached(ingress, ended.name)
        await until_detached(ingress, following.name)

        assert {(200, following.name)} == {(a.status_code, a.json()["name"]) for a in answers}
        assert 10 == len(following.paths)


async def running(ingress, count: int) -> bool:
    load = (await ingress.load([POOL])).get(POOL)
    return load is not None and load.running == count


async def test_a_body_that_is_too_large_to_be_sent_again_is_refused_and_not_lost(
    ingress, machine, url, upstream, visitor
):
    one = await upstream("ta-1")
    await attached(ingress, machine, one)
    await one.close()
    answer = await visitor.post(url, content=b"x" * 1_000_000)

    assert (503, "1") == (answer.status_code, answer.headers["retry-after"])
    assert [] == one.paths


async def test_an_apps_own_425_is_answered_once(ingress, machine, url, visitor, tmp_path):
    """Its container sends it as another status (tests/runner/servers)."""
    asked = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path)
        return web.Response(status=499, headers={"X-Homeport-Status": "425"})

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, str(tmp_path / "early.sock")).start()
    await machine.port.lead({"ta-1": f"unix:{tmp_path}/early.sock"})
    await ingress.attach(POOL, "ta-1", "peer:a/ta-1", 1)
    response = await visitor.get(url)
    await end(runner)

    assert 425 == response.status_code
    assert "x-homeport-status" not in response.headers
    assert ["/"] == asked


@pytest.mark.parametrize("reloads", [0, 2])
async def test_requests_to_a_machine_that_is_removed_end_also_in_earlier_processes(
    ingress, machine, url, upstream, visitor, reloads
):
    one, here = await upstream("ta-1"), await upstream("ta-2")
    await attached(ingress, machine, one)
    one.release.clear()
    inside = asyncio.create_task(visitor.get(url, headers={"Connection": "close"}))
    await until(lambda: one.inside == 1, "a request inside")
    for _ in range(reloads):
        await ingress._supervisor.reload()
    await ingress.drain(POOL, "ta-1")  # a later process does not count what is inside
    await ingress.attach(POOL, "ta-2", here.address, 1)
    here.release.clear()
    other = asyncio.create_task(visitor.get(url))
    await until(lambda: here.inside == 1, "a request in another container")
    await ingress.peer("a", None)
    answer = await inside
    here.release.set()

    assert answer.status_code in (502, 503)
    assert 200 == (await other).status_code


async def test_the_requests_in_all_containers_of_a_lost_machine_are_found_at_once(
    ingress, machine, url, upstream, visitor, monkeypatch
):
    looks = []

    def look(text: str) -> list[runtime.Session]:
        looks.append(text)
        return runtime.sessions(text)

    monkeypatch.setattr(containers, "sessions", look)
    lost = [await upstream(f"ta-{number}") for number in range(8)]
    for container in lost:
        container.release.clear()
        await attached(ingress, machine, container)
    asked = [asyncio.create_task(visitor.get(url)) for _ in lost]
    await until(lambda: all(container.inside == 1 for container in lost), "requests inside")
    await asyncio.gather(*(ingress.cut(POOL, container.name, 0.0) for container in lost))
    answers = await asyncio.gather(*asked)

    assert {502} == {answer.status_code for answer in answers}
    assert 2 >= len(looks)
