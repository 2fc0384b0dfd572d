"""Each request to the API gets a clear answer, and a refused one changes nothing."""

import asyncio
import json

import httpx
import pytest
from hypothesis import given

from homeport.contract import codec
from homeport.control.api.access import OwnSocket
from tests.contract.test_validate import mutated
from tests.control.api.served import api_of, client
from tests.control.plane import Plane, function, manifest
from tests.fakes import FakeNode
from tests.waiting import virtually

GOOD = json.loads(codec.dumps(manifest(function("f"))))


def outcome(answer: httpx.Response) -> str:
    """How a deploy ended: `done`, or the kind of failure."""
    if answer.status_code != 200:
        return answer.json()["error"]["kind"]
    last = json.loads(answer.text.splitlines()[-1])
    return last["error"]["kind"] if last["event"] == "error" else last["event"]


def test_an_app_is_deployed_and_stopped_over_the_api(tmp_path):
    async def story():
        async with Plane(tmp_path) as plane, client(plane, tmp_path) as http:
            deployed = await http.post("/v1/apps/shop/deploy", json={"manifest": GOOD})
            again = await http.post("/v1/apps/shop/deploy", json={"manifest": GOOD})
            stopped = await http.post("/v1/apps/shop/stop")
            twice = await http.post("/v1/apps/shop/stop")
            never = await http.post("/v1/apps/blog/stop")
            back = await http.post("/v1/apps/shop/rollback", json={})

            assert "done" == outcome(deployed) == outcome(again) == outcome(back)
            assert json.loads(again.text.splitlines()[-1])["deployed"]["skipped"]
            assert {"containers": 1} == stopped.json()
            assert (400, "App is already stopped.") == (
                twice.status_code,
                twice.json()["error"]["message"],
            )
            assert 404 == never.status_code
            await plane.check_whole()

    virtually(story())


@given(data=mutated())
def test_a_mutated_manifest_is_deployed_or_refused_and_nothing_is_half_done(tmp_path_factory, data):
    home = tmp_path_factory.mktemp("home")

    async def story():
        async with Plane(home, FakeNode(0.01)) as plane, client(plane, home) as http:
            try:
                body = json.dumps({"manifest": data})
            except RecursionError:
                return
            answer = await http.post("/v1/apps/shop/deploy", content=body)

            assert answer.status_code < 500
            assert outcome(answer) != "Bug"
            while plane.deployer._changes:
                await asyncio.sleep(0.1)
            await plane.check_whole()
            if outcome(answer) != "done":
                assert [] == await plane.store.apps()
                assert [] == await plane.store.revisions("shop")

    virtually(story())


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/apps/shop/deploy", b"{"),
        ("POST", "/v1/apps/shop/deploy", b"[]"),
        ("POST", "/v1/apps/shop/deploy", b"{}"),
        ("POST", "/v1/apps/shop/deploy", b'{"manifest": NaN}'),
        ("POST", "/v1/apps/shop/deploy", b"[" * 100_000),
        ("POST", "/v1/apps/shop/deploy", b"\xff\xfe{}"),
        ("POST", "/v1/apps/shop/deploy", json.dumps({"manifest": GOOD, "drain_s": "1"}).encode()),
        ("POST", "/v1/apps/shop/deploy", json.dumps({"manifest": GOOD, "drain_s": 1e300}).encode()),
        ("POST", "/v1/apps/shop/deploy", json.dumps({"manifest": GOOD, "tag": "a b"}).encode()),
        ("POST", "/v1/apps/shop/deploy", json.dumps({"manifest": GOOD, "strategy": 7}).encode()),
        ("POST", "/v1/apps/a%20b/deploy", json.dumps({"manifest": GOOD}).encode()),
        ("POST", "/v1/apps/shop/rollback", b'{"version": "x"}'),
        ("POST", "/v1/apps/shop/rollback", b'{"version": -1}'),
        ("POST", "/v1/apps/shop/rollback", b'{"version": 99999999999999999999}'),
        ("POST", "/v1/apps/%ff%00/stop", b""),
        ("GET", "/v1/apps/shop/logs?since=x", b""),
        ("GET", "/v1/apps/shop/logs?since=nan", b""),
        ("GET", "/v1/apps/shop/logs?tail=-1", b""),
        ("GET", "/v1/apps/shop/logs?tail=%D9%A3", b""),
        ("GET", "/v1/apps/shop/cold-starts?tail=x", b""),
        ("POST", "/v1/blobs/missing", b'{"hashes": ["../../x"]}'),
        ("POST", "/v1/blobs/missing", b'{"hashes": "x"}'),
        ("PUT", "/v1/blobs/zz", b"x"),
        ("PUT", f"/v1/blobs/{'a' * 64}", b"x"),
        ("POST", "/v1/secrets", b'{"name": "a", "values": []}'),
        ("POST", "/v1/secrets", b'{"name": "a", "values": {"K": 1}}'),
        ("POST", "/v1/secrets", b'{"name": "a", "values": {"K": "\\ud800"}}'),
        ("POST", "/v1/secrets", b'{"name": "\\u0000", "values": {"K": "v"}}'),
        ("POST", "/v1/proxy-tokens", b'{"name": "\\ud800"}'),
        ("DELETE", "/v1/secrets/%00", b""),
        ("DELETE", "/v1/proxy-tokens/none", b""),
        ("PUT", "/v1/serve/none", json.dumps({"manifest": GOOD}).encode()),
        ("POST", "/v1/serve", b'{"manifest": {"app_name": 3}}'),
    ],
)
def test_a_request_that_cannot_be_meant_is_refused_in_words(tmp_path, method, path, body):
    async def story():
        async with Plane(tmp_path) as plane, client(plane, tmp_path) as http:
            await http.post("/v1/apps/shop/deploy", json={"manifest": GOOD})
            before = await plane.state()
            answer = await http.request(method, path, content=body)
            if answer.status_code == 200:
                assert outcome(answer) not in {"done", "Bug"}
            else:
                assert answer.status_code in {400, 404}
                assert answer.json()["error"]["message"]
            assert before == await plane.state()

    virtually(story())


def test_a_deploy_goes_on_when_its_caller_has_gone(tmp_path):
    async def story():
        async with Plane(tmp_path, FakeNode(5.0)) as plane, client(plane, tmp_path) as http:
            deploying = asyncio.create_task(
                http.post("/v1/apps/shop/deploy", json={"manifest": GOOD})
            )
            await asyncio.sleep(1)
            deploying.cancel()
            await asyncio.sleep(10)

            assert 1 == (await plane.store.app("shop")).version
            await plane.check_whole()

    virtually(story())


def test_closing_the_api_ends_its_streams_and_not_the_deploy(tmp_path):
    async def story():
        async with Plane(tmp_path, FakeNode(5.0)) as plane:
            async with api_of(plane, tmp_path) as server:
                transport = httpx.ASGITransport(OwnSocket(server.api.app()))
                async with httpx.AsyncClient(transport=transport, base_url="http://h") as http:
                    body = json.dumps({"manifest": GOOD})
                    asking = asyncio.create_task(http.post("/v1/apps/shop/deploy", content=body))
                    while not streams():
                        await asyncio.sleep(0.1)
                    await server.api.close()
                    left = streams()
                    asking.cancel()
            while plane.deployer._changes:
                await asyncio.sleep(0.1)

            assert set() == left
            assert 1 == (await plane.store.app("shop")).version

    def streams():
        names = (task.get_name() for task in asyncio.all_tasks())
        return {name for name in names if name in ("deploy of `shop`", "log lines of a deploy")}

    virtually(story())
