"""Calls through a real HAProxy: who reaches an endpoint for calls, and what a caller may not say of itself."""

import asyncio
import contextlib

import httpx
import pytest

from homeport import wire
from homeport.contract import calls
from homeport.contract.traffic import Endpoint, PoolKey
from tests.ingress.conftest import POOL, routed
from tests.ingress.http_rules import h2
from tests.waiting import until

CALLED = calls.endpoint_id("app", "f", key="k")
OTHER = PoolKey("app", "web", "rv-1")


@pytest.fixture
async def call(ingress, make_settings):
    """Send a request to the socket for calls; by default to the endpoint of POOL, which is routed."""
    await ingress.route(Endpoint(id=CALLED, hosts=(), pool=POOL))
    transport = httpx.AsyncHTTPTransport(uds=str(make_settings().calls_socket))
    async with httpx.AsyncClient(transport=transport, timeout=60) as client:

        async def call(endpoint=CALLED, method="POST", path="/", **more) -> httpx.Response:
            fields = {"X-Homeport-Call": endpoint, **more.pop("headers", {})}
            return await client.request(method, f"http://calls{path}", headers=fields, **more)

        yield call


async def test_a_call_goes_to_its_pool_and_has_a_request_id(ingress, upstream, call):
    one = await upstream("one")
    await ingress.attach(POOL, "one", one.address, 1)
    answer = await call(content=b"x" * 100_000)
    seen = answer.json()

    assert "one" == seen["name"]
    assert seen["headers"]["x-request-id"] == answer.headers["x-request-id"]
    assert "x-homeport-retries" not in answer.headers
    unknown = calls.endpoint_id("app", "g", key="k")
    assert 404 == (await call(unknown)).status_code
    assert 405 == (await call(method="GET")).status_code
    await ingress.unroute(CALLED)
    assert 404 == (await call()).status_code


async def test_a_caller_chooses_no_method_no_request_id_and_no_address(ingress, upstream, call):
    one = await upstream("one")
    await ingress.attach(POOL, "one", one.address, 1)
    forged = {
        "X-Forwarded-For": "6.6.6.6",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "evil",
        "X-Real-IP": "6.6.6.6",
        "Forwarded": "for=6.6.6.6",
        "X-Homeport-Method": "other",
        "X-Homeport-Hops": "-1",
        "X-Homeport-Host": "evil",
        "X-Request-Id": "mine",
        "Connection": "keep-alive, x-request-id",
    }
    answer = await call(headers=forged)
    assert 200 == answer.status_code, (answer.text, answer.headers)
    seen = answer.json()["headers"]

    assert {name.lower() for name in forged} & set(seen) <= {"x-request-id", "connection"}
    assert "mine" != seen["x-request-id"] == answer.headers["x-request-id"]

    await ingress.route(Endpoint(id=CALLED, hosts=(), pool=POOL, method="times"))
    assert "times" == (await call(headers=forged)).json()["headers"]["x-homeport-method"]


async def test_a_caller_cannot_reach_what_has_a_url(ingress, upstream, call):
    """A URL may need a proxy token, and its app believes X-Forwarded-For."""
    await routed(ingress, OTHER, id="ada--web", hosts=("web.localhost",), protected=True)
    one = await upstream("one")
    await ingress.attach(OTHER, "one", one.address, 1)

    for wrong in ("ada--web", "", "web.localhost", f"{CALLED} ada--web", CALLED.upper()):
        answer = await call(wrong, headers={"Host": "web.localhost"})
        assert 404 == answer.status_code
    assert [] == one.paths


VISITS = {
    "a field": b"X-Homeport-Call: %s\r\n",
    "another case": b"x-HOMEPORT-call: %s\r\n",
    "twice": b"X-Homeport-Call: x\r\nX-Homeport-Call: %s\r\n",
    "named by Connection": b"Connection: x-homeport-call\r\nX-Homeport-Call: %s\r\n",
    "as a host": b"X-Forwarded-Host: %s\r\nX-Homeport-Host: %s\r\n",
    "underscores": b"X_Homeport_Call: %s\r\n",
}


@pytest.mark.parametrize("how", VISITS)
@pytest.mark.parametrize("is_cold", [False, True], ids=["warm", "re-entry"])
async def test_a_visitor_never_reaches_an_endpoint_for_calls(
    ingress, activator, upstream, call, how, is_cold
):
    """Also if the request enters again, because its container has just ended."""
    url = await routed(ingress, OTHER, id="web", hosts=("web.localhost",))
    secret, own = await upstream("secret"), await upstream("own")
    await ingress.attach(POOL, "secret", secret.address, 5)
    if is_cold:
        activator.answer = _ended_and_replaced(ingress, OTHER, own)
    else:
        await ingress.attach(OTHER, "own", own.address, 1)
    port = int(url.rpartition(":")[2])
    fields = VISITS[how].replace(b"%s", CALLED.encode())
    line = b"POST / HTTP/1.1\r\nHost: web.localhost\r\n"
    sent = line + fields + b"Connection: close\r\nContent-Length: 0\r\n\r\n"
    trailers = (
        line + b"Connection: close\r\nTransfer-Encoding: chunked\r\nTrailer: X-Homeport-Call\r\n\r\n0\r\n"
        + fields + b"\r\n"
    )  # fmt: skip
    pairs = [
        (name.decode().lower(), value.strip().decode())
        for name, _, value in (each.partition(b":") for each in fields.split(b"\r\n") if each)
        if name.lower() != b"connection"
    ]
    for raw in (sent, trailers, h2(*pairs, authority="web.localhost", method="POST", body=b"")):
        answer = await _raw(port, raw)
        assert b"secret" not in answer
    for host in (CALLED, f"{CALLED}.localhost"):
        answer = await _raw(
            ingress.http_port,
            b"POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            % host.encode(),
        )
        assert b" 404 " in answer

    assert [] == secret.paths
    assert own.paths


def _ended_and_replaced(ingress, pool, upstream):
    """Answer a parked request by a container that has ended at once, and later by one that answers."""
    tries = []

    async def start(_pool: str) -> str:
        tries.append(1)
        if len(tries) == 1:
            await ingress.attach(pool, "dead", f"{upstream.address}.gone", 1)
            tries.append(asyncio.create_task(ingress.lose(pool, "dead")))
        else:
            await tries[1]
            await ingress.attach(pool, "own", upstream.address, 1)
        return "go"

    return start


async def _raw(port: int, sent: bytes) -> bytes:
    """What comes back for these bytes, until the other side closes or has said enough."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    answer = b""
    with contextlib.suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(60):
            while piece := await reader.read(65536):
                answer += piece
                if sent.startswith(b"PRI") and b'"headers"' in answer:
                    break
    writer.close()
    return answer


async def test_a_cold_call_parks_as_a_call(ingress, activator, upstream, call):
    one = await upstream("one")

    async def start(pool: str) -> str:
        await ingress.attach(POOL, "one", one.address, 1)
        return "go"

    activator.answer = start
    answer = await call(content=b"y")

    assert "one" == answer.json()["name"]
    assert "call" == activator.lines[0][-1]


async def test_a_call_whose_container_has_ended_enters_again_as_a_call(
    ingress, activator, upstream, call
):
    one = await upstream("one")
    activator.answer = _ended_and_replaced(ingress, POOL, one)
    answer = await call(content=b"y")

    assert "one" == answer.json()["name"]
    assert {"call"} == {line[-1] for line in activator.lines}


async def test_a_caller_is_told_why_no_container_starts(ingress, activator, call):
    async def refuse(pool: str) -> str:
        return "no 500 import failed: no module named x"

    activator.answer = refuse
    answer = await call()

    assert (500, "homeport: import failed: no module named x\n") == (
        answer.status_code,
        answer.text,
    )


async def test_class_parameters_choose_a_pool(ingress, activator, upstream, call):
    await ingress.route(Endpoint(id=CALLED, hosts=(), pool=POOL, parameters=("size",)))
    one = await upstream("one")

    async def start(pool: str) -> str:
        await ingress.attach(PoolKey.parse(pool), "one", one.address, 1)
        return "go"

    activator.answer = start

    assert "one" == (await call(path="/?size=7")).json()["name"]
    assert [f"{POOL}?size=7"] == activator.parked


async def test_the_policy_of_retries_is_in_every_answer_and_comes_from_no_container(
    ingress, activator, upstream, call
):
    policy = calls.Retries(max_retries=3).text
    await ingress.route(Endpoint(id=CALLED, hosts=(), pool=POOL, retries=policy))
    refused = await call()
    one = await upstream("one")
    await ingress.attach(POOL, "one", one.address, 1)

    assert 503 == refused.status_code
    assert policy == refused.headers["x-homeport-retries"]
    assert policy == (await call()).headers["x-homeport-retries"]


async def test_the_callers_connection_is_kept_and_its_end_cancels(
    ingress, upstream, call, make_settings
):
    path = str(make_settings().calls_socket)
    one = await upstream("one")
    await ingress.attach(POOL, "one", one.address, 1)
    for _ in range(3):
        assert 200 == (await wire.ask_async(path, wire.Request(CALLED, b"x"))).status
    one.release.clear()
    asking = asyncio.create_task(wire.ask_async(path, wire.Request(CALLED, b"x")))
    await until(lambda: one.inside, "the request inside")
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    async def ended() -> bool:
        return not (await ingress.load([POOL]))[POOL].running

    await until(ended, "HAProxy to end the request")  # and to tell the container, by its connection
