"""The API over HTTPS by a real HAProxy: what reaches the control plane's socket, and what does not."""

import asyncio
import contextlib
import json

import pytest

from homeport.contract.traffic import Endpoint
from homeport.control.api.access import BY_GUARD
from homeport.ingress import remote
from tests.ingress.conftest import POOL
from tests.ingress.test_tls import AUTHORITY, ask, connect, plain

DOMAIN = "apps.test"


class Plane:
    """A control plane's socket that keeps the heads of requests, and answers with `status`."""

    def __init__(self):
        self.heads: list[str] = []
        self.bodies = bytearray()
        self.status = 200
        self.fields = ""
        self.left = asyncio.Event()

    async def answer(self, reader, writer):
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            self.heads.append(head)
            if "upgrade: websocket" in head:
                writer.write(
                    b"HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
                )
                writer.write(await reader.readexactly(4))
                await writer.drain()
            elif "/v1/stream" in head:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nfirst\n")
                await reader.read()
                self.left.set()
            else:
                if "content-length" in head:
                    length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
                    self.bodies += await reader.readexactly(length)
                writer.write(
                    f"HTTP/1.1 {self.status} X\r\n{self.fields}Content-Length: 3\r\nConnection: close\r\n\r\napi".encode()
                )
        writer.close()


@pytest.fixture
async def plane(start):
    """Start an ingress with a certificate for its domain, before a control plane's socket."""
    ingress = await start(tls="files", https_port=0, domain=DOMAIN)
    await ingress.certificate("api", AUTHORITY.pem(DOMAIN), [DOMAIN])
    plane = Plane()
    plane.ingress = ingress
    server = await asyncio.start_unix_server(
        plane.answer, str(ingress._settings.remote_socket), limit=1 << 20
    )
    async with server:
        yield plane


async def test_the_api_is_at_the_domain_itself_by_https_alone(plane):
    assert "api" == (await ask(plane.ingress, DOMAIN, path="/v1/status"))[1]
    for path in ("/", "/v1", "/v2/status", "/x/v1/status"):
        assert "404" in (await ask(plane.ingress, DOMAIN, path=path))[0].partition("\r\n")[0]
    answer = await plain(plane.ingress, DOMAIN, "/v1/status")
    assert 308 == answer.status_code
    assert 1 == len(plane.heads)


async def test_the_ingress_alone_says_the_visitors_address_to_the_api(plane):
    forged = "X-Homeport-Source: 192.0.2.9\r\nx-homeport-source: 1\r\nAuthorization: Bearer t\r\n"
    await ask(plane.ingress, DOMAIN, path="/v1/status", fields=forged)

    (head,) = plane.heads
    assert 1 == head.count("x-homeport-source")
    assert "\r\nx-homeport-source: 127.0.0.1\r\n" in head
    assert "\r\nauthorization: bearer t\r\n" in head


async def test_no_app_gets_the_tokens_whatever_host_it_has(plane, upstream):
    app = await upstream("one")
    await plane.ingress.attach(POOL, "one", app.address, 10)
    await plane.ingress.route(Endpoint(id="thief", pool=POOL, hosts=(DOMAIN, f"*.{DOMAIN}")))

    assert "one" in (await ask(plane.ingress, DOMAIN))[1]
    assert "api" == (await ask(plane.ingress, DOMAIN, path="/v1/status"))[1]


async def test_a_wildcard_of_the_parent_domain_does_not_take_the_domain(plane, upstream):
    app = await upstream("one")
    await plane.ingress.attach(POOL, "one", app.address, 10)
    await plane.ingress.route(Endpoint(id="thief", pool=POOL, hosts=("*.test",), protected=True))

    assert "api" == (await ask(plane.ingress, DOMAIN, path="/v1/status"))[1]
    assert "404" in (await ask(plane.ingress, DOMAIN))[0].partition("\r\n")[0]


async def test_a_websocket_passes_to_the_api(plane):
    reader, writer = await connect(plane.ingress, DOMAIN)
    writer.write(
        f"GET /v1/programs HTTP/1.1\r\nHost: {DOMAIN}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    head = await reader.readuntil(b"\r\n\r\n")
    writer.write(b"ping")

    assert b" 101 " in head
    assert b"ping" == await reader.readexactly(4)
    writer.close()


async def test_a_stream_comes_at_once_and_its_end_is_seen(plane):
    reader, writer = await connect(plane.ingress, DOMAIN)
    writer.write(f"GET /v1/stream HTTP/1.1\r\nHost: {DOMAIN}\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")

    assert b"first\n" == await reader.readexactly(6)
    writer.transport.abort()
    async with asyncio.timeout(60):
        await plane.left.wait()


async def test_a_body_passes_to_the_api_as_it_comes(plane):
    reader, writer = await connect(plane.ingress, DOMAIN)
    size = 3 << 20
    writer.write(
        f"PUT /v1/blobs/x HTTP/1.1\r\nHost: {DOMAIN}\r\nContent-Length: {size}\r\nConnection: close\r\n\r\n".encode()
    )
    writer.write(b"x" * size)
    answer = await reader.read()
    writer.close()

    assert b"api" == answer[-3:]
    assert size == len(plane.bodies)


async def statuses_of(plane, count):
    """Send requests in one connection; return their statuses, and the last one's head and body."""
    reader, writer = await connect(plane.ingress, DOMAIN)
    writer.write((f"GET /v1/status HTTP/1.1\r\nHost: {DOMAIN}\r\n\r\n" * count).encode())
    statuses = []
    while len(statuses) < count:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        assert "x-homeport-refused" not in head
        body = await reader.readexactly(
            int(head.partition("content-length: ")[2].partition("\r\n")[0])
        )
        statuses.append(int(head.split()[1]))
    writer.close()
    return statuses, head, body


async def test_a_flood_of_wrong_tokens_does_not_reach_the_control_plane(plane):
    plane.status, plane.fields = 401, f"{BY_GUARD}: 1\r\n"
    statuses, head, body = await statuses_of(plane, remote.MOST + 20)

    assert [401] * (remote.MOST + 1) == statuses[: remote.MOST + 1]
    assert {429} == set(statuses[remote.MOST + 1 :])
    assert f"retry-after: {remote.COUNTED_S}" in head
    assert "TooMany" == json.loads(body)["error"]["kind"]


async def test_a_429_for_a_right_token_does_not_lock_its_address_out(plane):
    plane.status = 429
    statuses, _, body = await statuses_of(plane, remote.MOST + 20)

    assert [429] * (remote.MOST + 20) == statuses
    assert b"api" == body
    assert remote.MOST + 20 == len(plane.heads)
