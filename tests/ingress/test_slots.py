"""Connections to a container: shared or not, and how long a request may hold its slot."""

import asyncio
import contextlib

import httpx
import pytest

from homeport.contract.traffic import PoolKey
from homeport.ingress import rules
from tests.ingress.conftest import POOL, Activator, routed
from tests.waiting import until

ROUNDS = 3  # how often a request parks before it comes in again: park.lua


async def leave(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


class Careless:
    """A program that answers without reading a request's body, and counts its connections."""

    def __init__(self, path) -> None:
        self.address = f"unix:{path}"
        self.connections: list[int] = []  # how many requests each had
        self._server: asyncio.Server | None = None
        self._visits: list[asyncio.Task] = []

    async def open(self) -> "Careless":
        path = self.address.removeprefix("unix:")
        self._server = await asyncio.start_unix_server(self._visit, path=path)
        return self

    @property
    def used(self) -> list[int]:
        """The connections that had a request: HAProxy's check, 0.1 s after a server is added, has none."""
        return [requests for requests in self.connections if requests]

    async def close(self) -> None:
        self._server.close()
        for visit in self._visits:
            visit.cancel()
        await asyncio.gather(*self._visits, return_exceptions=True)

    async def _visit(self, reader, writer) -> None:
        self._visits.append(asyncio.current_task())
        number = len(self.connections)
        self.connections.append(0)
        with contextlib.suppress(
            asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError
        ):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.connections[number] += 1
                path = head.split(b" ")[1]
                if path == b"/phantom":
                    await asyncio.sleep(0.2)
                answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s"
                writer.write(answer % (len(path), path))
                await writer.drain()
        await leave(writer)


@pytest.fixture
async def careless(tmp_path):
    made = await Careless(tmp_path / "careless.sock").open()
    yield made
    await made.close()


async def talk(port: int, data: bytes, end: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    try:
        async with asyncio.timeout(60):
            return await reader.readuntil(end)
    finally:
        await leave(writer)


async def test_a_body_that_is_left_unread_is_nobody_elses_request(ingress, careless):
    port = int((await routed(ingress)).rpartition(":")[2])
    await ingress.attach(POOL, "one", careless.address, 50, shared=False)
    inner = b"GET /phantom HTTP/1.1\r\nHost: x\r\n\r\n"
    head = b"POST /mine HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(inner)
    answers = []
    for _ in range(5):
        visits = [talk(port, head + inner, b"/mine") for _ in range(4)]
        visits += [
            talk(port, b"GET /other HTTP/1.1\r\nHost: x\r\n\r\n", b"/other") for _ in range(4)
        ]
        answers += await asyncio.gather(*visits)

    assert all(b"phantom" not in answer for answer in answers)
    assert 40 == len(careless.used)


async def test_a_visitors_kept_connection_has_a_new_one_to_the_container_each_time(
    ingress, careless, visitor
):
    url = await routed(ingress)
    await ingress.attach(POOL, "one", careless.address, 1, shared=False)
    for _ in range(3):
        answer = await visitor.get(url)

    assert "connection" not in answer.headers
    assert [1, 1, 1] == careless.used


async def test_a_hung_container_is_504_a_little_after_its_functions_timeout(
    ingress, upstream, visitor
):
    url = await routed(ingress, timeout_s=0.2)
    one = await upstream("one")
    one.release.clear()
    await ingress.attach(POOL, "one", one.address, 1)
    answer = await visitor.get(url)

    assert 504 == answer.status_code
    assert answer.headers["x-request-id"]
    assert answer.text.startswith("homeport: ")


async def test_waiting_for_a_container_does_not_count_as_time_inside(
    ingress, activator: Activator, upstream, visitor
):
    url = await routed(ingress, timeout_s=0.1)
    one, hung = await upstream("one"), await upstream("hung")
    hung.release.clear()
    other = await routed(ingress, PoolKey("app", "other", "rv-1"), timeout_s=0.1)
    await ingress.attach(PoolKey("app", "other", "rv-1"), "hung", hung.address, 1)

    async def start(key: str) -> str:
        # A request that came later, and has used up the same time inside a container.
        assert 504 == (await visitor.get(other)).status_code
        await ingress.attach(PoolKey.parse(key), "one", one.address, 1)
        return "go"

    activator.answer = start

    assert 200 == (await visitor.get(url)).status_code


@pytest.mark.parametrize("held", [1, 2])
async def test_held_slots_survive_a_reload_and_a_crash(ingress, activator, upstream, visitor, held):
    url = await routed(ingress)
    one = await upstream("one")
    await ingress.attach(POOL, "one", one.address, 2)
    await ingress.hold(POOL, "one", held)
    await ingress._supervisor.reload()
    one.release.clear()
    visits = [asyncio.create_task(visitor.get(url)) for _ in range(3)]
    expected = (2 - held, 0 if held == 2 else 2)

    async def settled() -> bool:
        if held == 2:
            return len(activator.parked) == 3
        load = (await ingress.load([POOL]))[POOL]
        return expected == (load.running, load.queued)

    await until(settled, "each request to have its place")
    one.release.set()
    answers = [(await visit).status_code for visit in visits]

    assert [503 if held == 2 else 200] * 3 == answers
    assert 2 - held == one.most


async def test_a_queued_request_is_not_refused_while_it_is_called_back(
    ingress, activator, upstream, visitor, monkeypatch
):
    url = await routed(ingress)
    one, two = await upstream("one"), await upstream("two")
    await ingress.attach(POOL, "one", one.address, 1)
    one.release.clear()
    visits = [asyncio.create_task(visitor.get(url)) for _ in range(3)]

    async def full() -> bool:
        load = (await ingress.load([POOL]))[POOL]
        return (1, 2) == (load.running, load.queued)

    await until(full, "one request inside and two in the queue")
    attached = asyncio.Event()

    async def start(_pool: str) -> str:
        await attached.wait()
        return "go waited"

    async def one_by_one(commands, at_once=()):
        for command in (*commands, *at_once):
            await tell([command])
            for _ in range(10):  # what another thread of HAProxy might do in between
                await ingress.load([POOL])

    activator.answer = start
    tell = ingress._supervisor.tell
    monkeypatch.setattr(ingress._supervisor, "tell", one_by_one)
    await ingress.lose(POOL, "one")
    monkeypatch.undo()
    await ingress.attach(POOL, "two", two.address, 2)
    attached.set()
    one.release.set()

    assert [200] * 3 == [(await visit).status_code for visit in visits]


async def test_a_request_that_waited_for_a_container_may_come_back_as_often_as_it_takes(
    ingress, activator, upstream, visitor, monkeypatch
):
    monkeypatch.setattr(rules, "HOPS", 2)
    await ingress._supervisor.reload()
    url = await routed(ingress)
    one = await upstream("one")

    async def too_late(_pool: str) -> str:
        if len(activator.parked) > 5 * ROUNDS:
            await ingress.attach(POOL, "one", one.address, 1)
        return "go waited"

    activator.answer = too_late

    assert 200 == (await visitor.get(url)).status_code


async def test_half_a_small_body_takes_no_slot_and_is_408(
    ingress, activator, upstream, visitor, monkeypatch
):
    monkeypatch.setattr(rules, "BODY_S", 1)
    await ingress._supervisor.reload()
    url = await routed(ingress)
    one = await upstream("one")
    await ingress.attach(POOL, "one", one.address, 1)
    reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(url).port)
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nhal")

    assert 200 == (await visitor.get(url)).status_code  # there is one slot, and it is free
    assert (await reader.read()).startswith(b"HTTP/1.1 408 ")
    assert 1 == len(one.paths)
    await leave(writer)


@pytest.mark.parametrize("count", [2, 8])
async def test_a_request_that_finds_many_containers_dead_waits_for_another(
    ingress, activator, upstream, visitor, count
):
    url = await routed(ingress)
    dead = [await upstream(f"dead{number}") for number in range(count)]
    for one in dead:
        await ingress.attach(POOL, one.name, one.address, 1)
        await one.close()
    live = await upstream("live")

    async def start(_pool: str) -> str:
        await ingress.attach(POOL, live.name, live.address, 1)
        return "go waited"

    activator.answer = start
    visit = asyncio.create_task(visitor.get(url))
    await asyncio.wait([visit], timeout=0.3)
    assert not visit.done()
    for one in dead:
        await ingress.lose(POOL, one.name)

    assert 200 == (await visit).status_code
    assert 1 == len(live.paths)


async def test_the_requests_of_a_session_go_to_one_container_while_it_takes_any(
    ingress, upstream, activator, visitor
):
    one, two = await upstream("one"), await upstream("two")
    url = await routed(ingress)
    for each in (one, two):
        await ingress.attach(POOL, each.name, each.address, 50, shared=False)

    async def home(session: str) -> str:
        return (await visitor.get(url, headers={"Modal-Session-ID": session})).json()["name"]

    homes = {f"s{number}": await home(f"s{number}") for number in range(6)}
    assert {"one", "two"} == {*homes.values()}
    assert homes == {session: await home(session) for session in homes}
    # Without the field, requests go where there are the fewest.
    assert 2 == len({(await visitor.get(url)).json()["name"] for _ in range(4)})

    await ingress.drain(POOL, "one")
    assert {"two"} == {await home(session) for session in homes}
    three = await upstream("three")
    await ingress.attach(POOL, three.name, three.address, 50, shared=False)
    assert {"two"} == {await home(session) for session in homes}
    await ingress.lose(POOL, "two")
    assert {"three"} == {await home(session) for session in homes}


async def test_a_session_that_came_before_its_container_does_not_stay_outside(
    ingress, upstream, activator, visitor
):
    one = await upstream("one")
    url = await routed(ingress)

    async def start(_pool: str) -> str:
        await ingress.attach(POOL, one.name, one.address, 50, shared=False)
        return "go"

    async def ask() -> str:
        return (await visitor.get(url, headers={"Modal-Session-ID": "mine"})).json()["name"]

    activator.answer = start
    assert ["one", "one"] == [await ask(), await ask()]
    await ingress.lose(POOL, "one")
    assert await until(lambda: ingress.detach(POOL, "one"), "the container to be forgotten")
    assert "one" == await ask()
