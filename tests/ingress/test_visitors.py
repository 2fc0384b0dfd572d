"""Who a visitor is, behind proxies too, and what one alone may take."""

import asyncio
import contextlib

import httpx
import pytest

from homeport.contract.errors import BadRequest
from homeport.settings import load
from tests.ingress.conftest import POOL, routed
from tests.waiting import until

SAID = {
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "shop.example.com",
    "X-Forwarded-Port": "8443",
}


async def seen(ingress, upstream, visitor, headers: dict[str, str]) -> dict[str, str]:
    """What the app sees of a request."""
    (fields,) = await all_seen(ingress, upstream, visitor, [headers])
    return fields


async def all_seen(ingress, upstream, visitor, requests) -> list[dict[str, str]]:
    """What the app sees of each request."""
    one = await upstream("one")
    url = await routed(ingress)
    await ingress.attach(POOL, "one", one.address, 1)
    return [(await visitor.get(url, headers=headers)).json()["headers"] for headers in requests]


async def test_a_trusted_proxy_tells_scheme_host_port_and_client(start, upstream, visitor):
    told = await seen(await start(trusted_proxies="127.0.0.1/32"), upstream, visitor, SAID)

    assert ("203.0.113.9", "https") == (told["x-forwarded-for"], told["x-forwarded-proto"])
    assert ("shop.example.com", "8443") == (told["host"], told["x-forwarded-port"])
    assert "shop.example.com" == told["x-forwarded-host"]


async def test_fields_of_a_visitor_that_is_no_trusted_proxy_are_not_believed(
    start, upstream, visitor
):
    told = await seen(await start(trusted_proxies="10.0.0.0/8"), upstream, visitor, SAID)

    assert ("127.0.0.1", "http") == (told["x-forwarded-for"], told["x-forwarded-proto"])
    assert "x-forwarded-host" not in told
    assert told["host"].startswith("127.0.0.1:")
    assert told["host"].endswith(told["x-forwarded-port"])


#: `X-Forwarded-For` -> the client, where 127.0.0.0/8 and 10.0.0.0/8 are trusted.
CLIENTS = {
    "203.0.113.9": "203.0.113.9",
    "6.6.6.6, 203.0.113.9": "203.0.113.9",
    "6.6.6.6, 203.0.113.9, 10.1.2.3": "203.0.113.9",
    "6.6.6.6, 203.0.113.9, 10.1.2.3, 10.9.9.9": "203.0.113.9",
    "10.1.2.3": "10.1.2.3",
    "6.6.6.6, unknown": "127.0.0.1",
    "6.6.6.6, 127.0.0.1:9; evil": "127.0.0.1",
    "2001:db8::7": "2001:db8::7",
    "": "127.0.0.1",
}


async def test_the_client_is_the_last_address_that_is_no_proxys(start, upstream, visitor):
    ingress = await start(trusted_proxies="127.0.0.0/8,10.0.0.0/8")
    requests = [{"X-Forwarded-For": addresses} for addresses in CLIENTS]
    seen_by_app = await all_seen(ingress, upstream, visitor, requests)
    clients = [fields["x-forwarded-for"] for fields in seen_by_app]

    assert CLIENTS == dict(zip(CLIENTS, clients, strict=True))


#: A proxy's fields -> the scheme and the port; None: the port of the request itself.
SCHEMES = (
    ({"X-Forwarded-Proto": "https"}, ("https", "443")),
    ({"X-Forwarded-Proto": "HTTPS"}, ("https", "443")),
    ({"X-Forwarded-Proto": "gopher"}, ("http", None)),
    ({"X-Forwarded-Proto": "https", "X-Forwarded-Port": "x"}, ("https", "443")),
    ({"X-Forwarded-Port": "99999999"}, ("http", None)),
    ({}, ("http", None)),
)


async def test_a_forwarded_scheme_or_port_that_cannot_be_is_ignored(start, upstream, visitor):
    ingress = await start(trusted_proxies="127.0.0.1")
    requests = [headers for headers, _ in SCHEMES]
    seen_by_app = await all_seen(ingress, upstream, visitor, requests)
    for (headers, (scheme, port)), fields in zip(SCHEMES, seen_by_app, strict=True):
        own_port = fields["host"].rpartition(":")[2]

        assert scheme == fields["x-forwarded-proto"], headers
        assert (port or own_port) == fields["x-forwarded-port"], headers


async def test_a_forwarded_host_that_is_no_host_is_ignored(start, upstream, visitor):
    hosts = ("a b", "evil/x", "a,b", "<x>", "x:y", "")
    ingress = await start(trusted_proxies="127.0.0.1")
    requests = [{"X-Forwarded-Host": host} for host in hosts]
    for host, fields in zip(
        hosts, await all_seen(ingress, upstream, visitor, requests), strict=True
    ):
        assert fields["host"].startswith("127.0.0.1:"), host
        assert "x-forwarded-host" not in fields, host


async def test_a_forwarded_host_chooses_nothing_also_on_the_way_back(
    start, activator, upstream, visitor
):
    ingress = await start(trusted_proxies="127.0.0.1")
    await routed(ingress, id="a", hosts=("a.localhost",))
    await routed(ingress, id="b", hosts=("b.localhost",), pool=OTHER)
    one, two = await upstream("one"), await upstream("two")
    await ingress.attach(POOL, "one", one.address, 1)
    await one.close()  # and nobody has told the ingress: the request comes in again

    async def start_another(pool: str) -> str:
        assert pool == str(POOL)
        await ingress.attach(POOL, "two", two.address, 1)
        return "go"

    activator.answer = start_another
    visit = asyncio.create_task(
        visitor.get(
            f"http://127.0.0.1:{ingress.http_port}/",
            headers={"Host": "a.localhost", "X-Forwarded-Host": "b.localhost"},
        )
    )
    await until(lambda: ingress.detach(POOL, "one"), "the end of the container to be seen")
    answer = (await visit).json()

    assert ("two", "b.localhost") == (answer["name"], answer["headers"]["host"])


@pytest.mark.parametrize("trusted", ["127.0.0.1", "10.0.0.0/8"])
@pytest.mark.parametrize("field", ["X-Homeport-Host", "X_Homeport_Host", "X-Forwarded-Host"])
async def test_no_field_but_host_chooses_the_endpoint(start, upstream, visitor, trusted, field):
    """Where proxies are trusted too: what one lets through of its visitors' is no word of its own."""
    ingress = await start(trusted_proxies=trusted)
    await routed(ingress, id="a", hosts=("a.localhost",))
    await routed(ingress, id="b", hosts=("b.localhost",), pool=OTHER)
    one, two = await upstream("one"), await upstream("two")
    await ingress.attach(POOL, "one", one.address, 1)
    await ingress.attach(OTHER, "two", two.address, 1)
    answer = await visitor.get(
        f"http://127.0.0.1:{ingress.http_port}/",
        headers={"Host": "a.localhost", field: "b.localhost"},
    )

    assert "one" == answer.json()["name"]


OTHER = type(POOL)("app", "other", "rv-1")


async def test_a_visitor_through_a_trusted_proxy_is_not_on_this_machine(start, activator, visitor):
    ingress = await start(trusted_proxies="127.0.0.1")
    url = await routed(ingress, hosts=("hello.localhost",))
    await visitor.get(url)
    unknown = await visitor.get(f"http://127.0.0.1:{ingress.http_port}/")

    assert [[]] == [line[3:] for line in activator.lines]
    assert "hello" not in unknown.text


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("127.0.0.1", "127.0.0.1/32"),
        ("10.0.0.0/8, ::1", "10.0.0.0/8,::1/128"),
        ("", ""),
    ],
)
def test_networks_are_written_in_one_way(tmp_path, given, kept):
    environ = {"HOMEPORT_HOME": str(tmp_path), "HOMEPORT_TRUSTED_PROXIES": given}

    assert kept == load(environ).trusted_proxies


@pytest.mark.parametrize("given", ["proxy.example", "10.0.0.1/8", "1.2.3.4 5.6.7.8", "*", "1.2.3"])
def test_a_setting_that_is_no_network_is_an_error_that_names_it(tmp_path, given):
    environ = {"HOMEPORT_HOME": str(tmp_path), "HOMEPORT_TRUSTED_PROXIES": given}

    with pytest.raises(BadRequest, match="HOMEPORT_TRUSTED_PROXIES"):
        load(environ)


async def send(port: int, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    await writer.drain()
    return reader, writer


async def leave(writer) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


@pytest.mark.parametrize("method", [b"GET", b"POST"])
async def test_a_small_body_that_does_not_come_takes_no_slot_and_starts_nothing(
    ingress, activator, upstream, visitor, method
):
    port = int((url := await routed(ingress)).rpartition(":")[2])
    head = method + b" /held HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n"
    held = [await send(port, head) for _ in range(20)]
    one = await upstream("one")
    await ingress.attach(POOL, "one", one.address, 1)
    answer = await visitor.get(f"{url}/other")
    held[0][1].write(b"hello")
    late = await held[0][0].readline()
    for _, writer in held:
        await leave(writer)

    assert 200 == answer.status_code
    assert b"HTTP/1.1 200 OK\r\n" == late
    assert ["/other", "/held"] == one.paths
    assert [] == activator.parked


async def test_a_large_body_streams_as_it_comes(ingress, upstream):
    port = int((await routed(ingress)).rpartition(":")[2])
    one = await upstream("one")
    await ingress.attach(POOL, "one", one.address, 1)
    head = b"POST /large HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
    _, writer = await send(port, head + b"x" * 1000)
    await until(lambda: one.paths, "the head of the request")
    await leave(writer)

    assert ["/large"] == one.paths


async def test_one_address_cannot_take_every_place(start, upstream, monkeypatch):
    from homeport.ingress import haproxy

    monkeypatch.setattr(haproxy, "of_one_source", lambda _settings: 5)
    ingress = await start()
    port = int((await routed(ingress)).rpartition(":")[2])
    one = await upstream("one")
    one.release.clear()
    await ingress.attach(POOL, "one", one.address, 100)
    get = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    inside = [await send(port, get) for _ in range(5)]
    await until(lambda: one.inside == 5, "five requests inside")
    reader, writer = await send(port, get)
    refused = await reader.read()
    await leave(writer)
    one.release.set()
    answers = [await reader.readline() for reader, _ in inside]
    reader, writer = await send(port, get)
    after = await reader.readline()
    for _, each in (*inside, (reader, writer)):
        await leave(each)

    assert refused.startswith(b"HTTP/1.1 429 ")
    assert b"Retry-After: 1" in refused or b"retry-after: 1" in refused
    assert {b"HTTP/1.1 200 OK\r\n"} == {*answers, after}


async def test_one_address_cannot_hold_every_connection(start, visitor, monkeypatch):
    from homeport.ingress import haproxy

    monkeypatch.setattr(haproxy, "of_one_source", lambda _settings: 5)
    ingress = await start()
    idle = [await _taken_in(ingress.http_port) for _ in range(10)]
    assert await _is_turned_away(ingress.http_port)
    await leave(idle.pop())
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(httpx.TransportError):
                if (await visitor.get(f"http://127.0.0.1:{ingress.http_port}/")).status_code == 404:
                    break
    for writer in idle:
        await leave(writer)


async def _taken_in(port: int) -> asyncio.StreamWriter:
    """Open a connection that then is idle.

    Its answer says that HAProxy counts it. A connection without one may be counted after a later one,
    by another thread, and is turned away itself.
    """
    reader, writer = await send(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 404 ")
    writer.write(b"GET / HTTP/1.1\r\n")
    await writer.drain()
    return writer


async def _is_turned_away(port: int) -> bool:
    """Whether a connection is closed without a word."""
    try:
        reader, writer = await send(port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    except ConnectionError:  # it is reset before we know that it was open
        return True
    try:
        return b"" == await reader.readline()
    except ConnectionError:
        return True
    finally:
        await leave(writer)


async def test_an_address_of_ipv6_works_like_any_other(start, activator, upstream, visitor):
    ingress = await start(host="::1")
    port = int((await routed(ingress, hosts=("hello.localhost",))).rpartition(":")[2])
    parked = await visitor.get(f"http://[::1]:{port}/")
    one = await upstream("one")
    await ingress.attach(POOL, "one", one.address, 1)
    told = (await visitor.get(f"http://[::1]:{port}/")).json()["headers"]
    unknown = await visitor.get(f"http://[::1]:{ingress.http_port}/")

    assert 503 == parked.status_code
    assert ["here"] == activator.lines[0][3:]
    assert ("::1", f"[::1]:{port}") == (told["x-forwarded-for"], told["host"])
    assert "there is no endpoint at `[::1]`; there are hello.localhost" in unknown.text
