"""Visitors who come in at another machine: its HAProxy, mTLS, and the ingress."""

import asyncio
import contextlib
import os
import signal
import socket
import ssl
from pathlib import Path

import httpx
import pytest

from homeport.contract.traffic import Endpoint, Public
from homeport.ingress import peer
from homeport.ingress.peer import PeerPort
from homeport.link import identity
from homeport.settings import Settings
from tests import ports
from tests.certificates import Authority
from tests.ingress.conftest import POOL
from tests.ingress.machines import B, pair
from tests.waiting import until

HOST, VISITOR = "web.localhost", "127.0.0.9"
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"  # of a PROXY header, version 2
AUTHORITY = Authority()


class Entered:
    """An ingress for everybody, a machine where visitors come in too, and a container of the ingress's machine."""

    def __init__(self, ingress, machine, port: int, at: Public, container) -> None:
        self.ingress, self.machine, self.port, self.at = ingress, machine, port, at
        self.container = container

    def visitor(self, address: str = VISITOR) -> httpx.AsyncClient:
        """Return a client from this address that comes in at the machine."""
        return self._client(self.at.http, address)

    def here(self) -> httpx.AsyncClient:
        """Return a client of the ingress itself."""
        return self._client(self.ingress.http_port, VISITOR)

    def _client(self, port: int, address: str) -> httpx.AsyncClient:
        transport = httpx.AsyncHTTPTransport(local_address=address)
        url = f"http://127.0.0.1:{port}"
        return httpx.AsyncClient(
            transport=transport, base_url=url, headers={"Host": HOST}, timeout=60
        )


@pytest.fixture
async def begin(start, machine, upstream):
    """Make an ingress with these settings, where visitors may come in at the machine too."""

    async def begin(https: int = 0, **changes) -> Entered:
        ingress = await start(**{"host": "0.0.0.0", "rate_limit": 0, **changes})
        await ingress.peer("a", machine.peer)
        port = await ingress.admit("127.0.0.1", 0)
        at = Public(host="127.0.0.1", http=ports.free_port(), https=https)
        await machine.port.towards("127.0.0.1", port, 0, at)
        one = await upstream("ta-1")
        await ingress.attach(POOL, "ta-1", one.address, 20)
        await ingress.route(Endpoint(id="web", pool=POOL, hosts=(HOST,)))
        return Entered(ingress, machine, port, at, one)

    return begin


@pytest.fixture
async def next_agent(machine):
    """Let another agent take the machine's HAProxy over; those of the earlier ones end after the test."""
    old = []

    async def next_agent(settings: Settings = machine.settings) -> None:
        supervisor = machine.port._supervisor
        old.extend((supervisor._process, *supervisor._retired))
        await machine.port.leave()
        machine.port = PeerPort(settings, identity.CONTROL)
        await machine.port.open()
        await machine.port.start()

    yield next_agent
    for each in old:
        each.kill()


@pytest.fixture
async def entered(begin) -> Entered:
    return await begin()


async def test_a_request_is_the_same_at_another_machine_and_the_visitors_address_arrives(entered):
    forged = {"X-Forwarded-For": "6.6.6.6", "X-Forwarded-Port": "1", "X-Long": "x" * 7_000}
    seen = []
    for client in (entered.here(), entered.visitor()):
        async with client:
            answers = [await client.get("/a%2Fb?c=d", headers=forged)]
            answers.append(await client.post("/", content=os.urandom(3_000_000)))
        assert [200, 200] == [answer.status_code for answer in answers]
        seen.append(answers[0].json())

    here, there = seen
    assert (VISITOR, VISITOR) == tuple(each["headers"]["x-forwarded-for"] for each in seen)
    assert str(entered.at.http) == there["headers"].pop("x-forwarded-port")
    for each in seen:
        del each["headers"]["x-request-id"]
    del here["headers"]["x-forwarded-port"]
    assert here == there


async def test_nobody_gets_at_another_machine_what_only_the_first_one_may_ask_for(
    entered, activator
):
    found = {}
    for name, client in (("here", entered.here()), ("there", entered.visitor("127.0.0.1"))):
        async with client:
            answers = [
                await client.get(path, headers={"Host": "localhost"}) for path in ("/metrics", "/")
            ]
        found[name] = [(answer.status_code, HOST in answer.text) for answer in answers]

    assert (404, True) == found["here"][1]  # the list of endpoints
    assert 404 != found["here"][0][0]
    assert [(404, False), (404, False)] == found["there"]


async def test_a_visitor_cannot_say_who_it_is(entered):
    lies = (
        b"PROXY TCP4 6.6.6.6 7.7.7.7 1 2\r\n",
        SIGNATURE + b"\x21\x11\x00\x0c" + bytes([6, 6, 6, 6, 7, 7, 7, 7, 0, 1, 0, 2]),
    )
    for lie in lies:
        reader, writer = await asyncio.open_connection("127.0.0.1", entered.at.http)
        writer.write(lie + f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        assert b"HTTP/1.1 400" == (await reader.read(12))
        writer.close()
    assert [] == entered.container.paths


def led_on(port: int, pair_file, ca, to: str, sent: bytes) -> bytes:
    """Send bytes as somebody with this certificate to the ingress's port for nodes; return the first ones of the answer."""
    context = identity.of_node(ca.certificate, pair_file)
    with (
        contextlib.suppress(ssl.SSLError, ConnectionError),
        socket.create_connection(("127.0.0.1", port), 5) as plain,
        context.wrap_socket(plain, server_hostname=f"{to}.{identity.CONTROL}") as secured,
    ):
        secured.sendall(sent)
        return secured.recv(12)
    return b""


async def test_only_a_node_may_lead_visitors_on_and_only_with_an_address(entered, ca, tmp_path):
    ask = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
    said = b"PROXY TCP4 6.6.6.6 7.7.7.7 1 80\r\n"
    stranger = tmp_path / "stranger.pem"
    stranger.write_bytes(pair(ca, B))
    own = entered.machine.pair
    for who, file, begin in (
        ("no certificate", None, said),
        ("a certificate of no node", stranger, said),
        ("no header", own, b""),
        ("an unknown address", own, b"PROXY UNKNOWN\r\n"),
        ("a connection of the node itself", own, SIGNATURE + b"\x20\x00\x00\x00"),
        ("a Unix socket", own, SIGNATURE + b"\x21\x31\x00\xd8" + bytes(216)),
    ):
        got = await asyncio.to_thread(led_on, entered.port, file, ca, "http", begin + ask)
        assert got in (b"", b"HTTP/1.1 400"), who
        assert [] == entered.container.paths, who

    got = await asyncio.to_thread(led_on, entered.port, own, ca, "http", said + ask)
    assert b"HTTP/1.1 200" == got
    # Nothing listens for HTTPS, so that name leads to calls, which a visitor's request is not.
    got = await asyncio.to_thread(led_on, entered.port, own, ca, "https", ask)
    assert b"HTTP/1.1 404" == got


async def test_an_ingress_of_this_machine_alone_lets_nobody_in_at_another_one(begin, ca):
    entered = await begin(host="127.0.0.1")
    said = b"PROXY TCP4 6.6.6.6 7.7.7.7 1 80\r\n"
    ask = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
    for begun in (b"", said):
        got = await asyncio.to_thread(
            led_on, entered.port, entered.machine.pair, ca, "http", begun + ask
        )
        assert got in (b"HTTP/1.1 404", b"HTTP/1.1 400")
    assert [] == entered.container.paths


async def test_a_machine_that_is_removed_lets_nobody_in_at_once(entered):
    entered.container.release.clear()
    async with entered.visitor() as inside, entered.visitor() as later:
        waiting = asyncio.create_task(inside.get("/"))
        await until(lambda: entered.container.inside == 1, "a request inside")
        await entered.ingress.peer("a", None)
        with pytest.raises(httpx.TransportError):
            await waiting
        entered.container.release.set()
        with pytest.raises(httpx.TransportError):
            await later.get("/")


async def test_nothing_fails_while_the_ingress_is_replaced_and_visitors_wait_while_it_is_dead(
    entered,
):
    answers = []
    async with entered.visitor() as client:
        answers.append(await client.get("/"))
        await entered.ingress._supervisor.reload()
        answers += [await client.get("/") for _ in range(3)]
    os.kill(entered.ingress.pid, signal.SIGKILL)
    async with entered.visitor() as client:
        answers.append(await client.get("/"))

    assert [200] * 5 == [answer.status_code for answer in answers]


def is_stopped(pid: int) -> bool:
    """Return whether each thread of a process is stopped: a signal reaches them one after the other."""
    states = (
        path.read_text().rpartition(")")[2] for path in Path(f"/proc/{pid}/task").glob("*/stat")
    )
    return all(state.split()[0] == "T" for state in states)


async def test_without_the_ingress_connections_that_it_had_end_and_others_wait_for_it(entered):
    """As when the first machine loses its power, which no Unix process can do: HAProxy is stopped, and answers nothing."""
    entered.container.release.clear()
    ingress = entered.ingress.pid
    async with entered.visitor() as inside, entered.visitor() as later:
        waiting = asyncio.create_task(inside.get("/"))
        await until(lambda: entered.container.inside == 1, "a request inside")
        os.kill(ingress, signal.SIGSTOP)
        try:
            await until(lambda: is_stopped(ingress), "all threads to stop")
            fresh = asyncio.create_task(later.get("/"))
            runtime = entered.machine.port._supervisor.runtime

            async def is_led() -> bool:
                text = await runtime.ask(("show", "sess"))
                return text.count("be=entering-http") == 2

            await until(is_led, "the second connection")
            await entered.machine.port.part()
            with pytest.raises(httpx.TransportError):
                await waiting
            assert not fresh.done()
        finally:
            os.kill(ingress, signal.SIGCONT)
        entered.container.release.set()
        assert 200 == (await fresh).status_code


async def test_visitors_who_wait_are_answered_by_the_ingress_of_another_machine(entered):
    nobody = ports.free_port()
    machine = entered.machine.port
    await machine.towards("127.0.0.1", nobody, 0, entered.at)
    async with entered.visitor() as client:
        waiting = asyncio.create_task(client.get("/"))
        runtime = machine._supervisor.runtime

        async def is_led() -> bool:
            return "be=entering-http" in await runtime.ask(("show", "sess"))

        await until(is_led, "the visitor")
        await machine.towards("127.0.0.1", entered.port, 0, entered.at)

        assert 200 == (await waiting).status_code


async def test_a_machine_answers_as_long_as_its_kernel_does(entered):
    machine, at = entered.machine.port, entered.at
    assert await machine.answers()
    await machine.towards("127.0.0.1", ports.free_port(), 0, at)
    assert await machine.answers()  # it refuses the connection
    with (
        socket.create_server(("127.0.0.1", 0), backlog=0) as full,
        contextlib.ExitStack() as waiting,
    ):
        for _ in range(3):
            # The kernel answers no further one, as nobody does for a machine that is gone.
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(full.getsockname())
        port = full.getsockname()[1]
        await machine.towards("127.0.0.1", port, 0, at)
        assert not await machine.answers()
        await machine.towards("127.0.0.1", port, 0)
        assert not await machine.answers()


async def test_the_next_agent_takes_the_ports_over_while_visitors_ask(entered, next_agent):
    entered.container.release.clear()
    async with entered.visitor() as inside, entered.visitor() as later:
        waiting = asyncio.create_task(inside.get("/"))
        await until(lambda: entered.container.inside == 1, "a request inside")
        await next_agent()
        assert ((entered.at.http,), {}) == entered.machine.port.entrance
        more = asyncio.create_task(later.get("/"))
        await until(lambda: entered.container.inside == 2, "another request")
        entered.container.release.set()
        answers = [await waiting, await more]

    assert [200, 200] == [answer.status_code for answer in answers]


async def test_a_port_that_another_program_has_is_said_and_opened_when_it_is_free(
    entered, next_agent, monkeypatch, caplog
):
    monkeypatch.setattr(peer, "AGAIN_S", 0.05)
    await next_agent()
    machine, port = entered.machine, ports.free_port()
    at = Public(host="127.0.0.1", http=port)
    with socket.create_server(("127.0.0.1", port)):
        await machine.port.towards("127.0.0.1", entered.port, 0, at)
        assert ((), {port: "Address already in use"}) == machine.port.entrance
        assert f"visitors cannot come in at 127.0.0.1, port {port}" in caplog.text
    await until(lambda: machine.port.entrance == ((port,), {}), "the port")
    entered.at = at

    async def answers() -> bool:
        with contextlib.suppress(httpx.TransportError):  # HAProxy is about to be replaced
            async with entered.visitor() as client:
                return (await client.get("/")).status_code == 200
        return False

    await until(answers, "an answer")


async def test_a_machine_with_the_setting_off_lets_nobody_in(machine, next_agent):
    port = ports.free_port()
    off = Settings(home=machine.settings.home, entrance="off")
    for settings in (machine.settings, off):
        await next_agent(settings)
        await machine.port.towards("127.0.0.1", 1, 0, Public(host="127.0.0.1", http=port))
        is_open = machine.port.entrance[0] != ()
        assert is_open == (settings is machine.settings)

    def is_closed() -> bool:  # HAProxy of the earlier agent lets go soon
        with socket.socket() as trial:
            return trial.connect_ex(("127.0.0.1", port)) != 0

    await until(is_closed, "the closed port")


async def test_https_ends_at_the_ingress_with_http_2(begin):
    entered = await begin(https=ports.free_port(), tls="files", https_port=0)
    await entered.ingress.certificate("a", AUTHORITY.pem(HOST), [HOST])
    async with entered.visitor() as client:
        moved = await client.get("/a")
    transport = httpx.AsyncHTTPTransport(verify=AUTHORITY.context("h2"), http2=True)
    async with httpx.AsyncClient(transport=transport, timeout=30) as client:
        answer = await client.get(
            f"https://127.0.0.1:{entered.at.https}/a",
            headers={"Host": HOST},
            extensions={"sni_hostname": HOST},
        )

    assert (308, f"https://{HOST}:{entered.ingress.https_port}/a") == (
        moved.status_code,
        moved.headers["location"],
    )
    assert ("HTTP/2", 200) == (answer.http_version, answer.status_code)
    assert "127.0.0.1" == answer.json()["headers"]["x-forwarded-for"]


async def test_one_address_has_as_many_connections_at_all_machines_as_at_one(begin, monkeypatch):
    monkeypatch.setattr("homeport.ingress.process.MAX_CONNECTIONS", 400)  # a quarter for one
    entered = await begin()
    async with contextlib.AsyncExitStack() as opened:

        async def connect(count: int) -> None:
            for _ in range(count):
                _, writer = await asyncio.open_connection(
                    "127.0.0.1", entered.at.http, local_addr=(VISITOR, 0)
                )
                opened.callback(writer.close)

        await connect(190)

        async def is_full() -> bool:
            await connect(10)  # the ingress ends those that ask for nothing for some seconds
            async with entered.visitor() as client:
                with contextlib.suppress(httpx.TransportError):
                    await client.get("/")
                    return False
            return True

        await until(is_full, "the limit")
        async with entered.visitor("127.0.0.8") as other:
            assert 200 == (await other.get("/")).status_code
