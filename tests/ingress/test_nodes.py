"""Containers of another machine call functions and reach URLs: their HAProxy, mTLS, and the ingress."""

import asyncio
import contextlib
import os
import signal
import socket
import ssl

import httpx
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.x509.oid import NameOID

from homeport.contract.calls import CALL, endpoint_id
from homeport.contract.traffic import Endpoint, Peer
from homeport.ingress import leaving
from homeport.ingress.leaving import Leaving
from homeport.ingress.peer import PeerPort
from homeport.link import authority, identity
from homeport.link.authority import Authority
from homeport.link.identity import Identity
from tests import ports
from tests.ingress.conftest import POOL, routed
from tests.ingress.machines import A, B, of_an_earlier_version, pair
from tests.waiting import until
from tests.web import end

CALLED = endpoint_id("app", "f", key="k")


@pytest.fixture
async def port(ingress, machine) -> int:
    """The ingress's port for nodes; the machine `a` leads its containers there."""
    await ingress.peer("a", machine.peer)
    number = await ingress.admit("127.0.0.1", 0)
    await machine.port.towards("127.0.0.1", number, 0)
    return number


@pytest.fixture
async def container(machine, port):
    """A client on the machine's socket for calls."""
    async with client(machine.settings.calls_socket) as http:
        yield http


def client(path) -> httpx.AsyncClient:
    transport = httpx.AsyncHTTPTransport(uds=str(path))
    return httpx.AsyncClient(transport=transport, base_url="http://calls", timeout=60)


@pytest.fixture
async def control_plane(make_settings):
    """The control plane's socket for containers: it says which node it was told of."""
    asked: list[str | None] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.headers.get("X-Homeport-Node"))
        return web.json_response({"path": request.raw_path})

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, str(make_settings().inside_socket)).start()
    yield asked
    await end(runner)


async def called(ingress, upstream, name: str = "ta-1", slots: int = 4):
    """Route the calls of a function to a container of the control plane's machine."""
    one = await upstream(name)
    await ingress.attach(POOL, name, one.address, slots)
    await ingress.route(Endpoint(id=CALLED, hosts=(), pool=POOL))
    return one


async def test_a_call_is_the_same_from_another_machine(ingress, container, upstream, make_settings):
    one = await called(ingress, upstream)
    forged = {"X-Homeport-Node": "b", "X-Forwarded-For": "6.6.6.6", "X-Long": "x" * 7_000}
    sent = {"headers": {CALL: CALLED, **forged}, "content": os.urandom(3_000_000)}
    async with client(make_settings().calls_socket) as here:
        seen_here = (await here.post("/?size=7", **sent)).json()
    seen = (await container.post("/?size=7", **sent)).json()
    answer = await container.post("/", headers={CALL: CALLED})

    assert answer.headers["x-request-id"] == answer.json()["headers"]["x-request-id"]
    for each in (seen_here, seen):
        del each["headers"]["x-request-id"]
    assert seen_here == seen
    assert "x-homeport-node" not in seen["headers"]
    assert 3 == len(one.paths)


async def test_a_container_can_ask_for_calls_alone(ingress, container, upstream):
    one = await called(ingress, upstream)
    await routed(ingress, id="main--vault", hosts=("vault.localhost",), protected=True)
    for fields in ({}, {CALL: "main--vault"}, {"Host": "vault.localhost"}):
        assert 404 == (await container.post("/", headers=fields)).status_code
    assert 405 == (await container.get("/", headers={CALL: CALLED})).status_code
    assert [] == one.paths


async def test_the_control_plane_hears_which_node_asks_whatever_a_container_says(
    ingress, container, control_plane, make_settings
):
    forged = [{}, {"X-Homeport-Node": "b"}, {"x-homeport-node": "here"}]
    async with client(make_settings().calls_socket) as here:
        for fields in forged:
            assert 200 == (await container.get("/v1/dicts", headers=fields)).status_code
            assert 200 == (await here.get("/v1/dicts", headers=fields)).status_code

    assert ["a", None] * 3 == control_plane


def asked(port: int, pair_file, ca: Authority, to: str = "calls") -> bytes:
    """Ask as somebody with this certificate; return the first bytes of the answer, empty if there is none."""
    context = identity.of_node(ca.certificate, pair_file)
    name = f"{to}.{identity.CONTROL}"
    with (
        contextlib.suppress(ssl.SSLError, ConnectionError),
        socket.create_connection(("127.0.0.1", port), 5) as plain,
        context.wrap_socket(plain, server_hostname=name) as secured,
    ):
        secured.sendall(b"GET /v1/dicts HTTP/1.1\r\nHost: x\r\nX-Homeport-Node: a\r\n\r\n")
        return secured.recv(15)
    return b""


@pytest.mark.parametrize("to", ["calls", "urls"])
async def test_only_nodes_may_connect(ingress, machine, port, ca, control_plane, tmp_path, to):
    other = Authority(tmp_path / "other")
    other.open()
    again = Identity(name="a", id="c" * 32)
    strangers = {
        "none": None,
        "of another node": pair(ca, B),
        "of the node before it joined again": pair(ca, again),
        "of an earlier version": of_an_earlier_version(ca, A),
        "of another CA": pair(other, A),
        "the control plane's": ca.pair.read_bytes(),
    }
    for who, text in strangers.items():
        file = None if text is None else tmp_path / "stranger.pem"
        if file is not None:
            file.write_bytes(text)
        assert b"" == await asyncio.to_thread(asked, port, file, ca, to), who
    assert [] == control_plane

    answer = await asyncio.to_thread(asked, port, machine.pair, ca, to)
    assert {"calls": b"HTTP/1.1 200 OK", "urls": b"HTTP/1.1 404 No"}[to] == answer


def test_the_subject_of_a_nodes_certificate_is_its_id(ca):
    pem = authority.certificate_of(pair(ca, A))
    (subject,) = x509.load_pem_x509_certificate(pem).subject

    assert (NameOID.COMMON_NAME, A.id) == (subject.oid, subject.value)
    assert authority.serves(pem)
    assert not authority.serves(authority.certificate_of(of_an_earlier_version(ca, A)))


async def test_a_node_that_is_removed_calls_nothing_any_more(
    ingress, machine, container, upstream, control_plane, port, ca
):
    one = await called(ingress, upstream)
    one.release.clear()
    inside = asyncio.create_task(container.post("/", headers={CALL: CALLED}))
    await until(lambda: one.inside == 1, "a call inside")
    async with client(machine.settings.calls_socket) as other:
        assert 200 == (await other.get("/v1/dicts")).status_code  # and its connection stays open
        await ingress.peer("a", None)
        answer = await other.get("/v1/dicts")

    assert answer.status_code in (502, 503)
    assert (await inside).status_code in (502, 503)
    assert b"" == await asyncio.to_thread(asked, port, machine.pair, ca)
    assert 1 == len(control_plane)
    one.release.set()


async def test_a_caller_that_leaves_ends_its_call(ingress, container, upstream):
    one = await called(ingress, upstream)
    one.release.clear()
    with pytest.raises(httpx.ReadTimeout):
        await container.post("/", headers={CALL: CALLED}, timeout=0.3)

    await until(lambda: ended(ingress), "the call to end")


async def ended(ingress) -> bool:
    return (await ingress.load([POOL]))[POOL].running == 0


@pytest.mark.soak
async def test_a_call_with_a_large_input_may_wait_for_its_container(ingress, container, upstream):
    """The input stays where it is, so for the kernel it is data that nobody acknowledges."""
    one = await called(ingress, upstream, slots=1)
    one.release.clear()
    fields = {CALL: CALLED}
    first = asyncio.create_task(container.post("/", headers=fields))
    await until(lambda: one.inside == 1, "a call inside")
    second = asyncio.create_task(container.post("/", headers=fields, content=os.urandom(8_000_000)))
    done, _ = await asyncio.wait({second}, timeout=40)
    one.release.set()

    assert not done
    assert [200, 200] == [(await call).status_code for call in (first, second)]


def test_a_call_has_no_limit_for_data_that_is_not_acknowledged():
    given = Leaving(calls=7, urls=8, where="x:1", of_control="c", ca="ca", pair="p", most=9)

    assert [] == [line for line in leaving.render(given) if "tcp-ut" in line]


async def test_without_the_ingress_calls_that_it_had_can_be_ended(
    ingress, machine, container, upstream, port
):
    """As when its machine is gone, which no Unix process can be: HAProxy is stopped, and answers nothing."""
    one = await called(ingress, upstream)
    one.release.clear()
    inside = asyncio.create_task(container.post("/", headers={CALL: CALLED}))
    await until(lambda: one.inside == 1, "a call inside")
    pid = ingress.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        await machine.port.part()  # that is for visitors
        done, _ = await asyncio.wait({inside}, timeout=0.1)
        await machine.port.part_callers()
        answer = await inside
    finally:
        os.kill(pid, signal.SIGCONT)
        one.release.set()

    assert not done
    assert answer.status_code in (502, 503)


async def test_calls_go_on_while_the_ingress_is_replaced_and_wait_while_it_is_dead(
    ingress, machine, container, upstream
):
    one = await called(ingress, upstream, slots=100)
    answers = [await container.post("/", headers={CALL: CALLED})]
    await ingress._supervisor.reload()
    answers += [await container.post("/", headers={CALL: CALLED}) for _ in range(2)]
    os.kill(ingress.pid, signal.SIGKILL)
    # By a connection of its own: what was sent on a connection to the dead process is lost with that.
    async with client(machine.settings.calls_socket) as other:
        answers.append(await other.post("/", headers={CALL: CALLED}))

    assert [200] * 4 == [answer.status_code for answer in answers]
    assert 4 == len(one.paths)


async def test_without_the_control_planes_machine_a_caller_hears_that_it_may_try_again(
    machine, ingress, upstream, control_plane
):
    nobody = ports.free_port()
    await machine.port.towards("127.0.0.1", nobody, 0)
    async with client(machine.settings.calls_socket) as http:
        answer = await http.get("/v1/dicts")

    assert 503 == answer.status_code
    assert "text/plain; charset=utf-8" == answer.headers["content-type"]
    assert "homeport: the control plane does not answer this machine\n" == answer.text


async def test_containers_see_no_socket_before_it_is_known_where_it_leads(machine):
    assert not machine.settings.calls_socket.exists()
    await machine.port.towards("127.0.0.1", 1, 0)

    assert machine.settings.calls_socket.exists()
    assert machine.settings.urls_socket.exists()


async def test_urls_are_reached_as_strangers_reach_them(ingress, machine, port, upstream):
    one = await upstream("ta-1")
    await ingress.attach(POOL, "ta-1", one.address, 4)
    await routed(ingress, hosts=("web.localhost",))
    await routed(ingress, id="main--vault", hosts=("vault.localhost",), protected=True)
    urls = ports.free_port()
    await machine.port.towards("127.0.0.1", port, urls)
    by_loopback = httpx.AsyncClient(base_url=f"http://127.0.0.1:{urls}", timeout=60)
    for way in (client(machine.settings.urls_socket), by_loopback):
        async with way as http:
            found = await http.get("/a", headers={"Host": "web.localhost"})
            statuses = [
                (await http.get(path, headers={"Host": host})).status_code
                for path, host in (("/metrics", "localhost"), ("/", "vault.localhost"))
            ]

        assert ("ta-1", "/a") == (found.json()["name"], found.json()["path"])
        assert [404, 401] == statuses


async def test_a_machine_that_is_removed_has_no_way_in_by_an_earlier_process(
    ingress, machine, port, container, upstream, tmp_path
):
    one = await called(ingress, upstream)
    one.release.clear()
    inside = asyncio.create_task(container.post("/", headers={CALL: CALLED}))
    await until(lambda: one.inside == 1, "a call inside")
    for _ in range(2):
        await ingress._supervisor.reload()
    await ingress.peer("a", None)
    answer = await inside
    one.release.set()

    assert 502 == answer.status_code


async def test_the_next_agent_takes_the_sockets_over_while_calls_go_on(
    ingress, machine, port, container, upstream
):
    one = await called(ingress, upstream)
    one.release.clear()
    inside = asyncio.create_task(container.post("/", headers={CALL: CALLED}))
    await until(lambda: one.inside == 1, "a call inside")
    old = machine.port._supervisor._process
    await machine.port.leave()
    machine.port = PeerPort(machine.settings, identity.CONTROL)
    await machine.port.open()
    await machine.port.start()
    async with client(machine.settings.calls_socket) as other:
        fresh = asyncio.create_task(other.post("/", headers={CALL: CALLED}))
        await until(lambda: one.inside == 2, "another call")
        one.release.set()
        answers = [await inside, await fresh]
    old.kill()

    assert [200, 200] == [answer.status_code for answer in answers]


async def test_certificates_are_renewed_at_both_ends_while_calls_go_on(
    ingress, machine, container, upstream, ca
):
    await called(ingress, upstream)
    assert 200 == (await container.post("/", headers={CALL: CALLED})).status_code
    pids = ingress.pid, machine.port.pid
    await machine.port.renewed(pair(ca, A))
    ca.renew()
    await ingress.peer_certificate(ca.pair.read_text())
    async with client(machine.settings.calls_socket) as other:
        assert 200 == (await other.post("/", headers={CALL: CALLED})).status_code

    assert pids == (ingress.pid, machine.port.pid)


async def test_the_port_is_another_one_if_it_is_taken_and_the_same_for_who_asks_again(
    ingress, machine, caplog
):
    await ingress.peer("a", machine.peer)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = await ingress.admit("127.0.0.1", taken.getsockname()[1])

        assert number != taken.getsockname()[1]
    assert number == await ingress.admit("127.0.0.1", 0)
    assert "is taken" in caplog.text


async def test_a_node_that_joins_again_has_another_identity(
    ingress, machine, port, container, control_plane, ca
):
    again = Identity(name="a", id="c" * 32)
    await ingress.peer(
        "a", Peer(host="127.0.0.1", port=machine.port.port, name=again.host, id=again.id)
    )
    refused = await container.get("/v1/dicts")
    await machine.port.renewed(pair(ca, again))
    answer = await container.get("/v1/dicts")

    assert refused.status_code in (502, 503)
    assert 200 == answer.status_code
    assert ["a"] == control_plane
