"""The ingress's promises, against a real HAProxy."""

import asyncio
import os
import signal
import socket
import urllib.parse

import httpx
import pytest

from homeport.contract.errors import PortTaken
from homeport.contract.traffic import Endpoint, PoolKey
from homeport.ingress import haproxy as module
from homeport.ingress import picture
from homeport.ingress.haproxy import HAProxy
from tests import trees
from tests.ingress.conftest import POOL, abandoned, opened_by, routed
from tests.waiting import turns, until


async def test_a_request_goes_by_port_by_host_and_by_wildcard(ingress, upstream, visitor):
    url = await routed(ingress, hosts=("hello.localhost", "*.shop.example"))
    one = await upstream("one")
    await ingress.attach(POOL, "one", one.address, 1)
    main = f"http://127.0.0.1:{ingress.http_port}/a%2Fb?c=d"

    assert "one" == (await visitor.get(url)).json()["name"]
    for host in ("hello.localhost", "HELLO.localhost:99", "any.shop.example"):
        told = (await visitor.get(main, headers={"Host": host})).json()
        assert "/a%2Fb?c=d" == told["path"]
        assert host == told["headers"]["host"]
    for host in ("other.localhost", "shop.example", "a.b.shop.example"):
        assert 404 == (await visitor.get(main, headers={"Host": host})).status_code


async def test_an_unknown_host_is_told_the_known_ones_unless_it_comes_from_a_proxy(
    ingress, activator, visitor
):
    main = f"http://127.0.0.1:{ingress.http_port}/"
    nothing = await visitor.get(main)
    await routed(ingress, hosts=("hello.localhost",))
    here = await visitor.get(main)
    proxied = await visitor.get(main, headers={"X-Forwarded-For": "1.2.3.4"})
    activator.lists = False  # there are several workspaces
    secret = await visitor.get(main)

    assert proxied.text == secret.text
    assert "`homeport deploy script.py` makes one" in nothing.text
    assert "homeport: there is no endpoint at `127.0.0.1`; there are hello.localhost\n" == here.text
    assert "homeport: there is no endpoint at `127.0.0.1`\n" == proxied.text


async def test_fields_in_which_a_visitor_describes_itself_are_replaced(ingress, upstream, visitor):
    url = await routed(ingress, method="read")
    one = await upstream("one")
    await ingress.attach(POOL, "one", one.address, 1)
    forged = {
        "X-Forwarded-For": "6.6.6.6",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "evil",
        "X-Real-IP": "6.6.6.6",
        "Forwarded": "for=6.6.6.6",
        "X-Homeport-Method": "other",
        "X-Request-Id": "mine",
        "Modal-Key": "wk-x",
    }
    answer = await visitor.get(url, headers=forged)
    seen = answer.json()["headers"]

    assert ("127.0.0.1", "http") == (seen["x-forwarded-for"], seen["x-forwarded-proto"])
    assert "read" == seen["x-homeport-method"]
    assert {"x-forwarded-host", "x-real-ip", "forwarded", "modal-key"} & set(seen) == set()
    assert seen["x-request-id"] == answer.headers["x-request-id"] != "mine"
    assert f"fc-{seen['x-request-id']}" == answer.headers["modal-function-call-id"]
    reserved = await visitor.get(url, headers={"Modal-Function-Call-Id": "x"})
    assert (400, "homeport: prohibited modal header\n") == (reserved.status_code, reserved.text)


async def test_a_cold_request_parks_and_goes_on_when_a_container_is_there(
    ingress, activator, upstream, visitor
):
    url = await routed(ingress)
    one = await upstream("one")

    async def start(pool: str) -> str:
        await ingress.attach(PoolKey.parse(pool), "one", one.address, 1)
        return "go"

    activator.answer = start
    answer = await visitor.post(url, content=b"x" * 100_000)

    assert "one" == answer.json()["name"]
    assert [str(POOL)] == activator.parked


async def test_a_request_that_parked_for_a_pool_that_was_swapped_finds_the_new_one(
    ingress, activator, upstream, visitor
):
    url = await routed(ingress, id="e", hosts=("e.localhost",))
    two, new = await upstream("two"), PoolKey("app", "f", "rv-2")

    async def swap(pool: str) -> str:
        if pool == str(POOL):
            port = int(url.rpartition(":")[2])
            await ingress.route(Endpoint(id="e", hosts=("e.localhost",), pool=new, local_port=port))
        else:
            await ingress.attach(new, "two", two.address, 1)
        return "go"

    activator.answer = swap

    assert "two" == (await visitor.get(url)).json()["name"]
    assert [str(POOL), str(new)] == activator.parked


async def test_a_refused_request_is_told_why(ingress, activator, visitor):
    answer = await visitor.get(await routed(ingress))

    assert (503, f"homeport: nothing for {POOL}\n") == (answer.status_code, answer.text)
    assert "1" == answer.headers["retry-after"]


async def test_without_an_activator_a_cold_request_waits_a_little_and_is_told(ingress, visitor):
    answer = await visitor.get(await routed(ingress))

    assert 503 == answer.status_code
    assert "the server that would start one does not run" in answer.text


async def test_a_visitor_that_hangs_up_while_parked_holds_up_nobody(
    ingress, activator, upstream, visitor
):
    url = await routed(ingress)
    one = await upstream("one")
    asked, left = asyncio.Event(), asyncio.Event()

    async def start(pool: str) -> str:
        asked.set()
        await left.wait()
        if not await ingress.load([POOL]):
            await ingress.attach(PoolKey.parse(pool), "one", one.address, 1)
        return "go"

    activator.answer = start
    leaving = asyncio.create_task(visitor.get(f"{url}/gone"))
    async with asyncio.timeout(60):
        await asked.wait()
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    left.set()
    answer = await visitor.get(f"{url}/here")

    assert "/here" == answer.json()["path"]


async def test_a_container_never_has_more_than_its_slots_and_a_new_one_takes_the_queue(
    ingress, upstream, visitor
):
    url = await routed(ingress)
    one, two = await upstream("one"), await upstream("two")
    one.release.clear()
    await ingress.attach(POOL, "one", one.address, 1)
    visits = [asyncio.create_task(visitor.get(url)) for _ in range(5)]

    async def queued():
        load = (await ingress.load([POOL]))[POOL]
        return (load.running, load.queued) == (1, 4) and load

    assert {"one": 1} == (await until(queued, "the queue")).per_container
    await ingress.attach(POOL, "two", two.address, 1)

    async def four():
        return sum(visit.done() for visit in visits) == 4

    await until(four, "those that were queued")
    one.release.set()
    names = [(await visit).json()["name"] for visit in visits]

    assert (1, 1) == (one.most, two.most)
    assert 4 == names.count("two")
    assert 5 == (await ingress.load([POOL]))[POOL].served


async def test_a_visitor_that_hangs_up_while_queued_is_dropped_from_the_queue(
    ingress, upstream, visitor
):
    url = await routed(ingress)
    one = await upstream("one")
    one.release.clear()
    await ingress.attach(POOL, "one", one.address, 1)
    first = asyncio.create_task(visitor.get(f"{url}/first"))

    async def busy():
        return one.inside

    await until(busy, "a request inside")
    with pytest.raises(httpx.ReadTimeout):
        await visitor.get(f"{url}/gone", timeout=0.3)

    async def alone():
        return (await ingress.load([POOL]))[POOL].queued == 0

    await until(alone, "an empty queue")
    one.release.set()
    await first
    assert 200 == (await visitor.get(f"{url}/last")).status_code
    assert ["/first", "/last"] == one.paths


async def test_a_draining_container_finishes_and_is_gone_when_it_has(ingress, upstream, visitor):
    url = await routed(ingress)
    one, two = await upstream("one"), await upstream("two")
    one.release.clear()
    await ingress.attach(POOL, "one", one.address, 1)
    visit = asyncio.create_task(visitor.get(url))

    async def busy():
        return one.inside

    await until(busy, "a request inside")
    await ingress.attach(POOL, "two", two.address, 1)
    await ingress.drain(POOL, "one")

    assert {"two"} == {(await visitor.get(url)).json()["name"] for _ in range(5)}
    one.release.set()
    assert "one" == (await visit).json()["name"]
    await until(lambda: ingress.detach(POOL, "one"), "the end of its connections")
    assert {"two": 0} == (await ingress.load([POOL]))[POOL].per_container


async def test_the_last_container_works_its_queue_off_while_new_requests_park(
    ingress, activator, upstream, visitor
):
    url = await routed(ingress)
    one, two = await upstream("one"), await upstream("two")
    one.release.clear()
    await ingress.attach(POOL, "one", one.address, 1)
    early = [asyncio.create_task(visitor.get(url)) for _ in range(3)]

    async def full():
        return (await ingress.load([POOL]))[POOL].queued == 2

    await until(full, "the queue")
    await ingress.drain(POOL, "one")

    async def start(_pool: str) -> str:
        await ingress.attach(POOL, "two", two.address, 1)
        return "go"

    activator.answer = start
    late = await visitor.get(url)
    one.release.set()

    assert "two" == late.json()["name"]
    assert {200} == {(await visit).status_code for visit in early}


async def test_the_log_of_requests_is_read_once_each_time_a_line_is_heard(ingress, monkeypatch):
    passes = []
    monkeypatch.setattr(ingress, "_save", lambda: passes.append(ingress._heard.is_set()))
    ingress._heard.set()
    await until(lambda: passes, "a pass")

    assert [False] == passes[:1]  # else the loop would read again and again


async def test_the_request_after_a_crash_waits_for_a_new_container(
    ingress, activator, upstream, visitor
):
    url = await routed(ingress)
    one, two = await upstream("one"), await upstream("two")
    await ingress.attach(POOL, "one", one.address, 1)
    assert "one" == (await visitor.get(url)).json()["name"]
    await one.close()  # and nobody has told the ingress

    async def start(_pool: str) -> str:
        await ingress.attach(POOL, "two", two.address, 1)
        return "go"

    activator.answer = start
    visit = asyncio.create_task(visitor.get(url))
    await turns(1)
    await until(lambda: ingress.detach(POOL, "one"), "the news")

    assert "two" == (await visit).json()["name"]


async def test_a_request_that_finds_no_way_is_told_in_the_end(ingress, upstream, visitor):
    url = await routed(ingress)
    one = await upstream("one")
    await ingress.attach(POOL, "one", one.address, 1)
    await one.close()  # and nobody ever tells the ingress, nor starts another

    answer = await visitor.get(url)

    assert 503 == answer.status_code
    assert "homeport: no container takes the request now\n" == answer.text


async def test_a_protected_endpoint_wants_a_valid_token_before_anything_starts(
    ingress, activator, upstream, visitor
):
    url = await routed(ingress, protected=True)
    await ingress.tokens({"wk-1": opened_by("ws-1")})
    refused = [
        {},
        {"Modal-Key": "wk-1"},
        {"Modal-Key": "wk-1", "Modal-Secret": "ws-2"},
        {"Modal-Key": "wk-2", "Modal-Secret": "ws-1"},
        {"Authorization": "Bearer wk-1.ws-2"},
        {"Authorization": "Bearer wk-1"},
        {"Authorization": "Basic d2stMTp3cy0x"},
    ]
    for headers in refused:
        answer = await visitor.get(url, headers=headers)
        assert 401 == answer.status_code, headers
        assert "for proxy authorization" in answer.text
    assert [] == activator.parked
    one = await upstream("one")
    await ingress.attach(POOL, "one", one.address, 1)
    pair = await visitor.get(
        url, headers={"Modal-Key": "wk-1", "Modal-Secret": "ws-1", "Authorization": "Bearer mine"}
    )
    bearer = await visitor.get(url, headers={"Authorization": "Bearer wk-1.ws-1"})

    assert "Bearer mine" == pair.json()["headers"]["authorization"]
    assert "modal-secret" not in pair.json()["headers"]
    assert "authorization" not in bearer.json()["headers"]
    await ingress.tokens({})
    assert (
        401 == (await visitor.get(url, headers={"Authorization": "Bearer wk-1.ws-1"})).status_code
    )


async def test_a_token_opens_the_endpoints_of_its_realm_alone(ingress, upstream, visitor):
    one, realms = await upstream("one"), ("", "a" * 20, "b" * 20)
    await ingress.attach(POOL, "one", one.address, 1)
    urls = [await routed(ingress, protected=True, realm=realm) for realm in realms]
    names = ["wk-0", f"{'a' * 20}/wk-1", f"{'b' * 20}/wk-1"]  # the last two have the same id
    await ingress.tokens({name: opened_by(f"ws-{n}") for n, name in enumerate(names)})
    for place, url in enumerate(urls):
        bearers = [f"Bearer wk-{n}.ws-{n}" for n in (0, 1)] + ["Bearer wk-1.ws-2"]
        bearers += [f"Bearer {'a' * 20}-wk-1.ws-1", "Bearer 1-wk-0.ws-0"]
        codes = [
            (await visitor.get(url, headers={"Authorization": each})).status_code
            for each in bearers
        ]

        assert [200 if n == place else 401 for n in range(len(bearers))] == codes


async def test_a_body_over_4_gib_is_413_before_it_is_sent(ingress, visitor):
    port = int((await routed(ingress)).rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4294967297\r\n\r\n")

    assert b"413" in await reader.readline()
    writer.close()


async def test_over_the_rate_limit_is_429_and_what_is_refused_does_not_count(
    start, upstream, visitor
):
    ingress = await start(rate_limit=2)  # 10 in any 5 s
    url = await routed(ingress)
    one = await upstream("one")
    await ingress.attach(POOL, "one", one.address, 10)
    statuses = [(await visitor.get(url)).status_code for _ in range(30)]
    refused = await visitor.get(url)

    assert [200] * 10 == statuses[:10]
    assert [429] * 20 == statuses[10:]
    assert "1" == refused.headers["retry-after"]


async def test_class_parameters_choose_a_pool_and_an_alias_spares_the_next_park(
    ingress, activator, upstream, visitor
):
    url = await routed(ingress, parameters=("size", "name"))
    one = await upstream("one")
    chosen = PoolKey("app", "f", "rv-1", "size=7")

    async def start(key: str) -> str:
        if key == str(chosen):
            await ingress.attach(chosen, "one", one.address, 1)
        await ingress.alias(key, chosen)
        return "go"

    activator.answer = start
    for query in ("size=7", "x=1&size=7", "size=07", "size=07&y"):
        assert 200 == (await visitor.get(f"{url}/sub?{query}")).status_code

    assert [f"{POOL}?size=7", f"{POOL}?size=07"] == activator.parked


async def test_an_endpoint_that_goes_is_unknown_and_its_port_is_offered_again(ingress, visitor):
    url = await routed(ingress, id="e", hosts=("e.localhost",))
    port = int(url.rpartition(":")[2])
    await ingress.unroute("e")
    await ingress.unroute("e")

    assert 404 == (await visitor.get(url)).status_code
    offered = [await ingress.free_port() for _ in range(module.FIRST_PORTS)]
    assert port in offered
    assert len(set(offered)) == len(offered)


async def test_a_killed_haproxy_is_replaced_and_nobody_is_refused(ingress, upstream, visitor):
    url = await routed(ingress)
    one = await upstream("one")
    await ingress.attach(POOL, "one", one.address, 1)
    old = ingress.pid
    os.kill(old, signal.SIGKILL)
    os.waitid(os.P_PID, old, os.WEXITED | os.WNOWAIT)
    answer = await visitor.get(url)

    async def replaced():
        return old != ingress.pid

    assert "one" == answer.json()["name"]
    assert await until(replaced, "another process")


async def test_the_supplies_double_without_losing_a_request(ingress, upstream, visitor):
    url = await routed(ingress)
    one = await upstream("one")
    await ingress.attach(POOL, "one", one.address, 4)
    one.release.clear()
    stream = asyncio.create_task(visitor.get(url))
    stop = asyncio.Event()
    statuses = []

    async def busy():
        return one.inside

    await until(busy, "a request inside")
    one.release.set()

    async def probe():
        async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
            while not stop.is_set():
                statuses.append((await client.get(url)).status_code)

    probing = asyncio.create_task(probe())
    old = ingress.pid
    ports = {await ingress.free_port() for _ in range(2 * module.FIRST_PORTS)}
    for number in range(picture.FIRST_BACKENDS):
        await ingress.attach(PoolKey("app", f"f{number}", "rv-1"), f"c{number}", one.address, 1)
    stop.set()
    await probing

    assert 200 == (await stream).status_code
    assert {200} == set(statuses)
    assert old != ingress.pid
    assert 2 * module.FIRST_PORTS == len(ports)


async def test_a_port_of_somebody_else_is_a_clear_error(make_settings):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ingress = HAProxy(make_settings(http_port=port), tied=True)
        with pytest.raises(PortTaken, match=f"port {port}") as caught:
            await ingress.open()

    assert "--http-port" in caught.value.hint


async def test_nothing_is_left_behind(make_settings):
    settings = make_settings()
    ingress = HAProxy(settings, tied=False)
    await ingress.open()
    await ingress.start()
    pid = ingress.pid
    await ingress.close()

    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert [] == trees.sockets(settings.socket_dir)


async def test_an_haproxy_that_an_earlier_server_left_hands_over(make_settings, upstream, visitor):
    settings = make_settings()
    left = HAProxy(settings, tied=False)
    await left.open()
    await left.start()
    url = await routed(left, id="e", hosts=("e.localhost",))
    gone = await routed(left, id="gone", hosts=("gone.localhost",))
    one = await upstream("one")
    await left.attach(POOL, "one", one.address, 4)
    one.release.clear()
    slow = asyncio.create_task(visitor.get(url))
    port = int(url.rpartition(":")[2])

    async def busy():
        return one.inside

    await until(busy, "a request inside")
    await abandoned(left)
    stop = asyncio.Event()
    statuses = []
    calls = []

    async def call():
        transport = httpx.AsyncHTTPTransport(uds=str(settings.calls_socket))
        while not stop.is_set():
            async with httpx.AsyncClient(timeout=30, transport=transport) as client:
                calls.append((await client.get("http://calls/")).status_code)

    async def probe():
        while not stop.is_set():
            async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
                statuses.append((await client.get(url)).status_code)

    one.release.set()
    probing = [asyncio.create_task(probe()), asyncio.create_task(call())]
    fresh = HAProxy(settings, tied=False)
    await fresh.open()
    await fresh.route(Endpoint(id="e", hosts=("e.localhost",), pool=POOL, local_port=port))
    await fresh.attach(POOL, "one", one.address, 4)
    await fresh.start()
    after = await visitor.get(url)
    stop.set()
    await asyncio.gather(*probing)

    assert (200, 200) == ((await slow).status_code, after.status_code)
    assert ({200}, {404}) == (set(statuses), set(calls))
    assert left.http_port == fresh.http_port
    assert left.pid != fresh.pid
    async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
        assert 404 == (await client.get(gone)).status_code
    await fresh.close()
    assert not left._supervisor._process.running


async def test_a_port_that_was_asked_for_ends_what_an_earlier_server_left(make_settings):
    left = HAProxy(make_settings(), tied=False)
    await left.open()
    await left.start()
    await abandoned(left)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
    fresh = HAProxy(make_settings(http_port=port), tied=False)
    await fresh.open()

    assert port == fresh.http_port
    assert not left._supervisor._process.running
    await fresh.close()


HOSTILE = [
    "a;help",
    "a\\",
    "0<<",
    "1%3C%3C",
    "a%0ahelp",
    "a%0d%0aX:%20y",
    "%00",
    "%ff",
    "a+b%20c",
    "%1b[2J",
    "-",
    "a=b",
    "%26",
    "%2525",
    "%zz%",
    "%c3%bc",
    "../../x",
    "here",
]


@pytest.mark.parametrize("value", HOSTILE)
async def test_any_text_for_a_class_parameter_is_a_value_and_no_command(
    ingress, activator, upstream, visitor, value
):
    url = await routed(ingress, parameters=("größe", "name"))
    one = await upstream("one")
    given = urllib.parse.parse_qsl(f"name={value}", encoding="latin-1")[0][1].encode("latin-1")
    chosen = PoolKey("app", "f", "rv-1", f"name={urllib.parse.quote(given, safe='')}")

    async def start(key: str) -> str:
        await ingress.attach(PoolKey.parse(key), "one", one.address, 1)
        return "go"

    activator.answer = start
    port = int(url.rpartition(":")[2])
    for _ in range(2):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        line = f"GET /?name={value} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        writer.write(line.encode())
        answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 200 "), answer

    assert [str(chosen)] == activator.parked
    assert all(len(line) == 4 and line[3] == "here" for line in activator.lines)


async def test_class_parameters_that_are_too_long_are_refused(ingress, activator, visitor):
    url = await routed(ingress, parameters=("name",))

    assert 414 == (await visitor.get(f"{url}/?name={'a' * 5000}")).status_code
    assert [] == activator.parked


async def test_a_method_may_be_called_as_python_lets_it(ingress, upstream, visitor):
    url = await routed(ingress, method="größe", pool=PoolKey("ä%b", "f ü.*", "rv-1"))
    one = await upstream("one")
    await ingress.attach(PoolKey("ä%b", "f ü.*", "rv-1"), "one", one.address, 1)

    assert "gr%C3%B6%C3%9Fe" == (await visitor.get(url)).json()["headers"]["x-homeport-method"]


async def test_the_activator_hears_where_the_visitor_is(ingress, activator, visitor):
    url = await routed(ingress)
    for headers in (
        {},
        {"X-Forwarded-For": "127.0.0.1"},
        {"Forwarded": "for=::1"},
        {"Via": "1.1 x"},
    ):
        await visitor.get(url, headers=headers)

    assert [["here"], [], [], []] == [line[3:] for line in activator.lines]
