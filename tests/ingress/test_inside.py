"""The socket `calls` as an attacker in a container uses it, and the way to the control plane."""

import contextlib

import httpx
import pytest
from aiohttp import web

from homeport.contract.calls import CALL, endpoint_id
from homeport.contract.traffic import Endpoint
from tests.ingress.conftest import POOL, routed
from tests.web import end

CALLED = endpoint_id("app", "f", key="k")


@pytest.fixture
async def container(make_settings):
    """A client on the socket."""
    transport = httpx.AsyncHTTPTransport(uds=str(make_settings().calls_socket))
    async with httpx.AsyncClient(transport=transport, base_url="http://calls", timeout=60) as http:
        yield http


@contextlib.asynccontextmanager
async def control_plane(path):
    """A server that says what it was asked."""

    async def answer(request: web.Request) -> web.Response:
        return web.json_response({"path": request.raw_path, "method": request.method})

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, str(path)).start()
    yield
    await end(runner)


async def callable_(ingress, upstream):
    """Route a function's calls, and a URL that needs a token, to one container."""
    one = await upstream("one")
    await ingress.attach(POOL, "ta-1", one.address, 4)
    await ingress.route(Endpoint(id=CALLED, hosts=(), pool=POOL))
    await routed(ingress, id="main--vault", hosts=("vault.localhost",), protected=True)
    return one


async def test_a_call_goes_to_its_function(ingress, upstream, container):
    await callable_(ingress, upstream)
    answer = await container.post("/?size=7", headers={CALL: CALLED})

    assert ("one", "/?size=7") == (answer.json()["name"], answer.json()["path"])


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [(CALL, "main--vault")],
        [(CALL, CALLED), (CALL, "main--vault")],
        [(CALL, f"{CALLED},main--vault")],
        [(CALL, f"{CALLED}, main--vault")],
        [(CALL, f"{CALLED} x")],
        [(CALL, CALLED.upper())],
        [("Host", "vault.localhost")],
        [("X-Homeport-Host", "vault.localhost")],
    ],
)
async def test_a_container_can_ask_for_calls_alone(ingress, upstream, container, fields):
    one = await callable_(ingress, upstream)
    answer = await container.post("/", headers=fields)

    assert 404 == answer.status_code
    assert [] == one.paths


async def test_the_function_whose_right_was_checked_is_the_one_that_is_called(
    ingress, upstream, container
):
    one = await callable_(ingress, upstream)
    await container.post("/", headers=[(CALL, "main--vault"), (CALL, CALLED)])

    assert ["/"] == one.paths


async def test_other_paths_of_the_socket_lead_to_the_control_planes_routes_for_containers(
    ingress, upstream, container, make_settings
):
    one = await callable_(ingress, upstream)
    async with control_plane(make_settings().inside_socket):
        asked = await container.get("/v1/dicts?x=1")
        others = [
            (await container.get(path)).status_code for path in ("/", "/v2/x", "/v1", "//v1/")
        ]
        called = await container.post("/v1/dicts", headers={CALL: CALLED})

    assert {"path": "/v1/dicts?x=1", "method": "GET"} == asked.json()
    assert {404} == {*others}
    assert "one" == called.json()["name"]
    assert ["/v1/dicts"] == one.paths


async def test_without_a_control_plane_the_answer_comes_at_once(ingress, container):
    answer = await container.get("/v1/dicts")

    assert 503 == answer.status_code
    assert answer.headers["content-type"].startswith("text/plain")


async def test_a_visitor_reaches_neither_calls_nor_routes_for_containers(
    ingress, upstream, visitor, make_settings
):
    one = await callable_(ingress, upstream)
    base = f"http://127.0.0.1:{ingress.http_port}"
    async with control_plane(make_settings().inside_socket):
        answers = [
            await visitor.post(f"{base}{path}", headers={CALL: CALLED, "Host": host})
            for path in ("/", "/v1/dicts")
            for host in ("localhost", "calls", "unknown.localhost", CALLED, f"{CALLED}.localhost")
        ]

    assert {404} == {answer.status_code for answer in answers}
    assert [] == one.paths
