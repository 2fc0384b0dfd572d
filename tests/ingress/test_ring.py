"""The log of requests of real HAProxy processes: each request is kept once, whatever happens to the processes."""

import asyncio
import contextlib
import os
import signal
import socket

import httpx
import psutil

from homeport.contract import recorded
from homeport.contract.traffic import Endpoint, RequestRecord
from homeport.ingress import haproxy, process
from homeport.ingress.haproxy import HAProxy
from homeport.ingress.ring import Ring, Rings
from homeport.ingress.rules import AGAIN
from tests.ingress.conftest import POOL, Upstream, abandoned, routed
from tests.waiting import turns, until

CALL = f"call-{'0' * 32}"


class Book(list):
    """The requests that an ingress has told of, as records."""

    def __init__(self, ingress: HAProxy, seen: tuple[str, ...] = ()) -> None:
        super().__init__()
        ingress.keep(self._add, lambda: seen)

    def _add(self, lines) -> None:
        self += map(recorded.decode, lines)

    async def of(self, request: str) -> RequestRecord:
        """Return the record of a request, by its X-Request-Id."""
        await until(lambda: any(each.id == request for each in self), f"the record of {request}")
        (record,) = (each for each in self if each.id == request)
        return record


async def serving(ingress: HAProxy, upstream, slots: int) -> tuple[Book, Upstream, str]:
    """Attach a container; return what is told of its requests, the container, and its URL."""
    book, one = Book(ingress), await upstream("one")
    url = await routed(ingress)
    await ingress.attach(POOL, "one", one.address, slots)
    return book, one, url


def id_of(answer: httpx.Response) -> str:
    return answer.headers["x-request-id"]


async def test_each_request_and_call_is_told_with_its_parts(
    ingress, activator, upstream, visitor, make_settings
):
    book, one = Book(ingress), await upstream("one")
    url = await routed(ingress, id="web")
    await ingress.route(Endpoint(id=CALL, hosts=(), pool=POOL))

    async def start(_pool: str) -> str:
        await asyncio.sleep(0.2)  # the container takes this time, not the test
        await ingress.attach(POOL, "one", one.address, 1)
        return "go"

    activator.answer = start
    cold = await visitor.post(f"{url}/a%20b?secret=1", content=b"x" * 5000)
    warm = await visitor.get(url)
    transport = httpx.AsyncHTTPTransport(uds=str(make_settings().calls_socket))
    async with httpx.AsyncClient(timeout=30, transport=transport) as caller:
        call = await caller.post("http://calls/", headers={"X-Homeport-Call": CALL})

    record = await book.of(id_of(cold))
    assert ("visit", "web", "one", "POST", "/a%20b", 200) == (
        *(record.kind, record.endpoint, record.container),
        *(record.method, record.path, record.status),
    )
    assert ("", "", "") == (record.query, record.client, record.ended)
    assert record.cold
    assert 190 <= record.parts_ms["parked"] <= record.duration_ms
    assert record.received_bytes > 5000
    assert record.sent_bytes > len(cold.content)
    record = await book.of(id_of(warm))
    assert (False, "one") == (record.cold, record.container)
    record = await book.of(id_of(call))
    assert ("call", CALL, "one") == (record.kind, record.endpoint, record.container)


async def test_queries_and_addresses_are_told_if_the_settings_say_so(start, upstream, visitor):
    ingress = await start(request_details="queries,addresses")
    book, _, url = await serving(ingress, upstream, 1)
    record = await book.of(id_of(await visitor.get(f"{url}/x?a=1&b=2")))

    assert ("/x", "a=1&b=2", "127.0.0.1") == (record.path, record.query, record.client)


async def test_a_request_that_enters_again_is_told_once_with_who_answered(
    ingress, activator, upstream, visitor
):
    book, one, two = Book(ingress), await upstream("one"), await upstream("two")
    url = await routed(ingress)
    await ingress.attach(POOL, "one", one.address, 1)
    await one.close()  # it is gone, and nobody knows

    async def start(_pool: str) -> str:
        await ingress.attach(POOL, "two", two.address, 1)
        return "go"

    activator.answer = start
    asking = asyncio.create_task(visitor.get(url))
    backend = ingress._picture.pools[POOL].backend

    async def entered() -> bool:
        rows = await ingress._supervisor.runtime.stats([backend])
        return any(row.server == AGAIN and row.served for row in rows)

    await until(entered, "a further entry")
    await until(lambda: ingress.detach(POOL, "one"), "the news")
    record = await book.of(id_of(await asking))

    assert ("two", True, 200) == (record.container, record.cold, record.status)
    assert record.duration_ms == sum(record.parts_ms.values())
    assert record.parts_ms["parked"] >= 50


async def test_nothing_of_a_visitor_makes_a_line_unreadable(ingress, upstream, visitor):
    book, _, url = await serving(ingress, upstream, 4)
    ids = [
        id_of(await visitor.request(method, f"{url}/{path}"))
        for method, path in (("X" * 3000, ""), ("GET", "a" * 3000), ("A'%", "%20#x|*%0a"))
    ]
    records = [await book.of(each) for each in ids]

    assert ["X" * 20, "GET", "A'%"] == [each.method for each in records]
    assert records[1].path.endswith("aa...")
    assert "/%20" == records[2].path[:4]


async def test_a_visitor_that_hangs_up_is_recorded_as_such(ingress, upstream, visitor):
    book, one, url = await serving(ingress, upstream, 1)
    one.release.clear()
    gone = asyncio.create_task(visitor.get(url))
    await until(lambda: one.inside, "the request inside")
    gone.cancel()
    await until(lambda: book, "the record")

    assert [("visitor left", 0, "one")] == [(e.ended, e.status, e.container) for e in book]


async def test_a_retired_process_tells_its_last_request_and_ends(ingress, upstream, visitor):
    book, one, url = await serving(ingress, upstream, 4)
    one.release.clear()
    slow = asyncio.create_task(visitor.get(url))
    await until(lambda: one.inside, "the request inside")
    old = psutil.Process(ingress.pid)
    for _ in range(2):
        await ingress._supervisor.reload()
    assert old.is_running()
    one.release.set()
    quick = await visitor.get(url)
    await book.of(id_of(await slow))
    await book.of(id_of(quick))
    await until(lambda: not old.is_running(), "the old process's end")
    await until(lambda: len(ingress._rings._rings) == 1, "one ring")

    assert 2 == len(book)


async def test_a_process_that_had_no_turn_before_it_retires_tells_its_last_request(
    ingress, upstream, visitor, monkeypatch
):
    monkeypatch.setattr(process, "DEAF_S", 60.0)
    book, one, url = await serving(ingress, upstream, 4)
    one.release.clear()
    slow = asyncio.create_task(visitor.get(url))
    await until(lambda: one.inside, "the request inside")
    old = psutil.Process(ingress.pid)
    old.suspend()  # as on a busy machine: it accepts no connection of the log meanwhile
    try:
        reload = asyncio.create_task(ingress._supervisor.reload())
        await until(lambda: ingress.pid != old.pid, "another process")
        await turns(3)
    finally:
        old.resume()
    await reload
    one.release.set()
    await book.of(id_of(await slow))
    await until(lambda: not old.is_running(), "the old process's end")


async def test_a_killed_process_has_told_what_it_could(ingress, upstream, visitor):
    book, _, url = await serving(ingress, upstream, 4)
    before = await visitor.get(url)
    await book.of(id_of(before))
    old = ingress.pid
    os.kill(old, signal.SIGKILL)
    await until(lambda: ingress.pid not in (0, old), "another process")
    await book.of(id_of(await visitor.get(url)))
    await until(lambda: len(ingress._rings._rings) == 1, "one ring")


async def test_the_next_server_continues_where_the_one_before_has_ended(
    make_settings, upstream, visitor
):
    settings = make_settings()
    left = HAProxy(settings, tied=False)
    await left.open()
    await left.start()
    book = Book(left)
    url = await routed(left, id="e", hosts=("e.localhost",))
    one = await upstream("one")
    await left.attach(POOL, "one", one.address, 4)
    first = await visitor.get(url)
    await book.of(id_of(first))
    await abandoned(left)
    second = await visitor.get(url)

    fresh = HAProxy(settings, tied=False)
    later = Book(fresh, (id_of(first),))
    await fresh.open()
    try:
        port = int(url.rpartition(":")[2])
        await fresh.route(Endpoint(id="e", hosts=("e.localhost",), pool=POOL, local_port=port))
        await fresh.attach(POOL, "one", one.address, 4)
        await fresh.start()
        await later.of(id_of(second))
        third = await visitor.get(url)
        await later.of(id_of(third))
    finally:
        await fresh.close()

    assert [id_of(second), id_of(third)] == [each.id for each in later]
    assert not left._supervisor._process.running


async def test_more_lines_than_a_socket_holds_are_all_told(ingress, upstream, monkeypatch):
    book, _, url = await serving(ingress, upstream, 16)
    path = "/" + "x" * 700
    sent = 0
    async with contextlib.AsyncExitStack() as opened:
        clients = [
            await opened.enter_async_context(httpx.AsyncClient(timeout=60, trust_env=False))
            for _ in range(4)
        ]

        async def ask(client: httpx.AsyncClient) -> None:
            nonlocal sent
            for _ in range(90):
                await client.get(url + path)
                sent += 1

        read = ingress._read
        monkeypatch.setattr(ingress, "_read", lambda: False)  # nobody reads meanwhile
        await asyncio.gather(*map(ask, clients))
        monkeypatch.setattr(ingress, "_read", read)
    await until(lambda: len(book) >= sent, "all records")

    assert sent == len({each.id for each in book}) == len(book)


async def test_while_nobody_asks_nothing_is_read_and_the_next_request_is_told(
    ingress, upstream, visitor, monkeypatch
):
    monkeypatch.setattr(haproxy, "IDLE_POLL_S", 600.0)
    book, _, url = await serving(ingress, upstream, 1)
    assert (await book.of(id_of(await visitor.get(url)))).status == 200
    idle, wait = asyncio.Event(), ingress._rings.stirred

    async def stirred(longest_s: float) -> None:
        idle.set()
        await wait(longest_s)

    monkeypatch.setattr(ingress._rings, "stirred", stirred)
    for _ in range(2):
        async with asyncio.timeout(30):
            await idle.wait()
        record = await book.of(id_of(await visitor.get(url)))
        idle.clear()

        assert 200 == record.status


async def test_rings_wait_for_a_line_for_the_end_of_a_process_and_no_longer_than_they_may(tmp_path):
    """The process is a server in the test, because HAProxy cannot be told when to write."""
    talks: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
    path = tmp_path / "control.sock"
    server = await asyncio.start_unix_server(lambda _, talk: talks.put_nowait(talk), path=str(path))
    rings = Rings()
    rings.follow(path)
    async with asyncio.timeout(60):
        await rings.stirred(600.0)  # it is not connected
        assert ([], False) == rings.read()
        talk = await talks.get()
        await rings.stirred(0.01)
        waiting = asyncio.create_task(rings.stirred(600.0))
        await asyncio.sleep(0)
        talk.write(b"one\n")
        await waiting
        assert (["one"], False) == rings.read()
        waiting = asyncio.create_task(rings.stirred(600.0))
        await asyncio.sleep(0)
        rings.stir()
        await waiting
        talk.close()
        await rings.stirred(600.0)
        assert ([], False) == rings.read()
        await rings.stirred(600.0)  # it is not connected again
    rings.close()
    server.close()


async def test_a_ring_whose_process_has_ended_leaves_no_connection_open(tmp_path):
    """Whichever of its two connections ends first."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "control.sock"))
        listening.listen()
        ring = Ring(tmp_path / "control.sock")
        ring.retire()
        kept = ring._talk
        listening.accept()[0].close()  # that of the log; the other one waits
        ring.read()

    assert (True, -1) == (ring.gone, kept.fileno())
