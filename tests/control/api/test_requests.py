"""The requests that have ended, by the API."""

import json

import httpx
import pytest

from homeport.contract import query
from homeport.contract.api.requests import RequestQuery
from homeport.contract.container import LogLine
from homeport.contract.scope import Scope
from homeport.state.coldstarts import ColdStart
from homeport.state.requests import Place
from homeport.state.scope import MAIN
from tests.control.api.served import api_of, on_a_socket
from tests.control.api.served import client as client_of
from tests.control.plane import Plane, function, manifest
from tests.recorded import words
from tests.waiting import until, virtually

PLACES = {
    "price": Place(MAIN, "shop", "price"),
    "cart": Place(MAIN, "shop", "Cart.add"),
    "blog": Place(MAIN, "blog", "index"),
    "theirs": Place(Scope("acme", "main"), "shop", "price"),
}
LINES = (
    words(id="1", endpoint="price", ended="1000000", method="GET", target="/a/b", total="5"),
    words(id="2", endpoint="price", ended="2000000", status="404", method="POST", target="/c"),
    words(id="3", endpoint="cart", ended="3000000", status="503", container="-", parked="70"),
    words(id="4", endpoint="blog", ended="4000000", how="CD", total="9000", container="ta-2"),
    words(id="5", endpoint="theirs", ended="5000000"),
)


def story_of(tmp_path, tell):
    """Run a story with these requests: `tell(http, server)`."""

    async def story():
        async with Plane(tmp_path) as plane, client_of(plane, tmp_path) as http:
            server = http.server
            server.requests.add(LINES, PLACES.get, lambda _container: "")
            await tell(http, server, plane)

    virtually(story())


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        ({}, "1234"),
        ({"tail": 2}, "34"),
        ({"app": "shop"}, "123"),
        ({"app": "shop", "tag": "Cart.add"}, "3"),
        ({"container": "ta-2"}, "4"),
        ({"method": "post"}, "2"),
        ({"path": "/a"}, "1"),
        ({"status": "404"}, "2"),
        ({"status": "5xx"}, "3"),
        ({"since": 2000.0, "until": 4000.0}, "23"),
        ({"slower": 9000}, "4"),
        ({"cold": True}, "3"),
        ({"failed": True}, "34"),
        ({"failed": True, "app": "blog", "cold": True}, ""),
    ],
)
def test_a_query_returns_the_requests_that_match_it(tmp_path, wanted, ids):
    async def tell(http, _server, _plane):
        answer = await http.get(f"/v1/requests?{query.encode(RequestQuery(**wanted))}")

        assert ids == "".join(each["id"] for each in answer.json()["requests"])

    story_of(tmp_path, tell)


@pytest.mark.parametrize("status", ["6xx", "5x", "abc", "20", "-1"])
def test_a_text_that_is_no_status_is_an_error(tmp_path, status):
    async def tell(http, _server, _plane):
        answer = await http.get(f"/v1/requests?status={status}")

        assert 400 == answer.status_code
        assert f"`{status}` is not a status" == answer.json()["error"]["message"]

    story_of(tmp_path, tell)


def test_a_request_comes_with_its_cold_start_and_its_log_lines(tmp_path):
    async def tell(http, server, _plane):
        printed = LogLine(
            at=2999.0, app="shop", function="Cart.*", container="ta-9", text="hi", request="6"
        )
        server.logs.write(printed)
        server.logs.write(LogLine(**{**vars_of(printed), "request": "7", "text": "no"}))
        line = words(
            id="6", endpoint="cart", ended="2999500", total="600", parked="70", container="ta-9"
        )
        server.requests.add([line], PLACES.get, lambda _container: "")
        server.cold_starts.add(
            ColdStart(
                at=2998.9,
                app="shop",
                function="Cart.*",
                container="ta-9",
                revision="rv-1",
                origin="forked",
                timings_ms={"forked": 3.0},
            )
        )
        detail = (await http.get("/v1/requests/6")).json()

        assert ("6", "Cart.add", 600) == tuple(
            detail["request"][k] for k in ("id", "tag", "total_ms")
        )
        assert {"forked": 3.0} == detail["start"]["timings_ms"]
        assert ["hi"] == [each["text"] for each in detail["lines"]]
        assert (await http.get("/v1/requests/1")).json()["start"] is None

    story_of(tmp_path, tell)


async def test_requests_can_be_followed_with_the_last_ones_before(tmp_path):
    async with Plane(tmp_path) as plane, on_a_socket(plane, tmp_path) as server:
        server.requests.add(LINES, PLACES.get, lambda _container: "")
        transport = httpx.AsyncHTTPTransport(uds=str(plane.settings.control_socket))
        path = "/v1/requests/live?app=shop&tail=2"
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://homeport") as http,
            http.stream("GET", path) as answer,
        ):
            lines = answer.aiter_lines()
            assert ["2", "3"] == [each["id"] for each in json.loads(await anext(lines))["requests"]]
            new = (words(id="6", endpoint="blog"), words(id="7", endpoint="cart"))
            server.requests.add(new, PLACES.get, lambda _container: "")
            told = json.loads(await anext(lines))
            assert (["7"], 0) == ([each["id"] for each in told["requests"]], told["lost"])

        await until(lambda: not server.requests._followers, "the reader to be gone")


def vars_of(line: LogLine) -> dict:
    """Return a line's fields."""
    return {name: getattr(line, name) for name in line.__dataclass_fields__}


@pytest.mark.parametrize("request_id", ["5", "x", "a%20b", "%2e%2e"])
def test_a_request_of_another_workspace_is_as_unknown_as_one_that_never_was(tmp_path, request_id):
    async def tell(http, _server, _plane):
        answer = await http.get(f"/v1/requests/{request_id}")

        assert 404 == answer.status_code
        assert "is kept" in answer.json()["error"]["message"]

    story_of(tmp_path, tell)


def test_a_visit_is_recorded_with_its_app_and_its_version(tmp_path):
    async def story():
        async with Plane(tmp_path) as plane, api_of(plane, tmp_path) as server:
            for timeout_s in (1.0, 2.0):
                deployed = await plane.deploy(manifest(function("f", timeout_s=timeout_s)))
            endpoint = next(n for n, e in deployed.app.endpoints.items() if e.url)
            await plane.visit(endpoint)
            await plane.deployer.stop_app(MAIN, "shop")
            (kept,) = server.requests.search(MAIN, 10, lambda *_: True)

            assert ("shop", "f", deployed.app.revision.id) == (kept.app, kept.tag, kept.revision)

    virtually(story())
