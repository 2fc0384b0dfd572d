"""Each route that changes something makes a row of the audit log, by construction."""

import asyncio

import httpx
import pytest

from homeport.contract import codec
from homeport.contract.api.audit import AuditEntry
from homeport.contract.api.deploys import Deploy
from homeport.contract.api.sessions import Serve
from homeport.contract.calls import ENVIRONMENT, KEY
from homeport.contract.permissions import Permission
from homeport.control.api import routes, routing
from homeport.control.api.access import Caller, Guard, Inside, OwnSocket
from homeport.control.api.record import Audited
from tests.control.api.served import api_of
from tests.control.plane import KEY as OF_MAIN
from tests.control.plane import Plane, function, manifest
from tests.waiting import until

CHANGES = [e for noun in routes.NOUNS for e in routing.described(noun) if e.method != "GET"]
#: Routes of apps' data and traffic, and those that leave nothing behind. A new route is not one of them by itself.
NONE = {
    "POST /v1/keep",
    "POST /v1/functions/{app}/{tag}/variants",
    "POST /v1/apps/{name}/call/{tag}",
    "POST /v1/calls",
    "POST /v1/blobs/missing",
    "PUT /v1/blobs/{sha256}",
    "PUT /v1/volumes/{name}/file",
    "POST /v1/captures/{token}",
    "POST /v1/spawned",
    "POST /v1/spawned/reports",
    "POST /v1/dicts/{name}/get",
    "POST /v1/dicts/{name}/contains",
    "POST /v1/dicts/{name}/put",
    "POST /v1/dicts/{name}/pop",
    "POST /v1/queues/{name}/put",
    "POST /v1/queues/{name}/get",
    "DELETE /v1/tunnels/{name}",
}
#: Routes that containers use so often that only commands make rows.
USERS = {
    "POST /v1/dicts",
    "POST /v1/dicts/{name}/clear",
    "POST /v1/queues",
    "POST /v1/queues/{name}/clear",
    "POST /v1/spawned/{id}/cancel",
}


@pytest.fixture
async def server(tmp_path):
    async with Plane(tmp_path) as plane, api_of(plane, tmp_path) as server:
        server.plane = plane
        yield server


def http(app, **headers):
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://homeport", headers=headers)


def of(server, **caller):
    known = Caller(**{"by": "token", "name": "ada", "token": "ak-1", **caller})
    return http(Guard(server.api.app(), lambda _scope: known))


async def entries(server, query="", **caller) -> list[AuditEntry]:
    async with of(server, **caller) as client:
        answer = await client.get(f"/v1/audit?{query}")
    assert 200 == answer.status_code, answer.text
    return [codec.decode(AuditEntry, each) for each in answer.json()["entries"]]


def test_the_routes_that_make_no_rows_are_those_of_a_list():
    told = {audited: set() for audited in Audited}
    for each in CHANGES:
        told[each.audited].add(f"{each.method} {each.path}")

    assert NONE == told[Audited.NONE]
    assert USERS == told[Audited.USERS]


async def test_each_of_the_others_makes_a_row_also_if_it_is_refused(server):
    audited = [
        each
        for each in CHANGES
        if each.audited is not Audited.NONE and each.needs is not Permission.READ
    ]
    async with of(server, permissions=frozenset({Permission.READ}), source="192.0.2.7") as client:
        for each in audited:
            path = each.path.replace("{", "").replace("}", "")
            assert 403 == (await client.request(each.method, path)).status_code
    found = await entries(server, "tail=1000")

    assert [each.action for each in audited] == [entry.action for entry in found]
    assert {("token", "ada", "ak-1", "192.0.2.7", "Forbidden")} == {
        (e.by, e.user, e.token, e.source, e.result) for e in found
    }
    assert len({each.action for each in audited}) == len(audited), "two routes have one name"


async def test_no_row_has_a_secret(server):
    async with of(server) as client:
        for name in ("auth", "auth", "a\nb\x1b[2J"):
            body = {"name": name, "values": {"TOKEN": "hunter2"}}
            await client.post("/v1/secrets", json=body)
        await client.delete("/v1/secrets/auth")
        made = (await client.post("/v1/tokens", json={"name": "ci", "scopes": ["deploy"]})).json()
        proxy = (await client.post("/v1/proxy-tokens", json={"name": "web"})).json()
        path = f"/v1/proxy-tokens/{proxy['token_id']}/rotate"
        rotated = (await client.post(path, json={"overlap_s": 60.0})).json()
    found = await entries(server)

    assert [
        ("secret create", "ok", "main", "auth"),
        ("secret create", "AlreadyExists", "main", "auth"),
        ("secret create", "BadRequest", "main", "a\\u000ab\\u001b[2J"),
        ("secret delete", "ok", "main", "auth"),
        ("token create", "ok", "", f"{made['token']['id']} ci ada deploy"),
        ("proxy-token create", "ok", "main", f"{proxy['token_id']} web"),
        ("proxy-token rotate", "ok", "main", proxy["token_id"]),
    ] == [(e.action, e.result, e.environment, e.target) for e in found]
    for secret in ("hunter2", made["secret"].partition(".")[2], proxy["secret"], rotated["secret"]):
        assert secret not in str(found)


async def test_a_deploy_has_one_row_with_its_version_and_its_end(server):
    good, bad = Deploy(manifest=manifest(function("f"))), Deploy(manifest=manifest())
    async with of(server) as client:
        await client.post("/v1/apps/shop/deploy", content=codec.dumps(good))
        await client.post("/v1/apps/shop/deploy", content=codec.dumps(bad))
        await client.post("/v1/apps/shop/stop")
        await client.post("/v1/apps/none/stop")
        await client.post("/v1/apps/shop/stop", content="{}", headers={ENVIRONMENT: "no\nsuch"})
    found = await entries(server, "app=shop")

    assert [("app deploy", "ok", "shop v1")] == [(e.action, e.result, e.target) for e in found[:1]]
    assert "ok" != found[1].result != "begun"
    assert [("ok", "main"), ("NotFound", "")] == [(e.result, e.environment) for e in found[2:]]
    assert ["none"] == [e.target for e in await entries(server, "app=none")]


async def test_a_deploy_whose_caller_leaves_tells_its_end_all_the_same(server):
    caller_has_left = asyncio.Event()

    async def fault(call, _what, _when):
        if call == "start":
            await caller_has_left.wait()

    server.plane.node.fault = fault
    body = codec.dumps(Deploy(manifest=manifest(function("f"))))

    async def leave():
        async with of(server) as client:
            await client.post("/v1/apps/shop/deploy", content=body)

    leaving = asyncio.create_task(leave())

    async def result():
        found = await entries(server)
        return found[0].result if found else None

    assert "begun" == await until(result, "a row")
    leaving.cancel()
    await asyncio.wait({leaving})
    caller_has_left.set()

    async def ended():
        return await result() == "ok"

    await until(ended, "the deploy's end")


async def test_a_session_is_done_when_it_serves(server):
    body = codec.dumps(Serve(manifest=manifest(function("f"))))

    async def serve():
        async with of(server) as client:
            await client.post("/v1/serve", content=body)

    serving = asyncio.create_task(serve())

    async def serves():
        return [(e.action, e.result, e.app) for e in await entries(server)] == [
            ("app serve", "ok", "shop")
        ]

    await until(serves, "the session's row")
    serving.cancel()
    await asyncio.wait({serving})
    assert ["ok"] == [e.result for e in await entries(server)]


async def test_containers_make_rows_of_few_routes(server):
    app = Inside(server.api.inside(), server.plane.environments.by_key)
    async with http(app, **{KEY: OF_MAIN}) as client:
        await client.post("/v1/dicts", json={"name": "stock"})
        await client.post("/v1/dicts/stock/clear")
        await client.delete("/v1/dicts/stock")
    (row,) = await entries(server)

    assert ("container", "dict delete", "stock") == (row.by, row.action, row.target)


async def test_a_caller_sees_the_rows_of_its_workspace_and_its_permissions(server):
    async with http(OwnSocket(server.api.app())) as client:
        await client.post("/v1/workspaces", json={"name": "acme"})
    async with of(server, workspace="acme") as client:
        await client.post("/v1/secrets", json={"name": "theirs", "values": {"A": "1"}})
    async with of(server) as client:
        await client.post("/v1/secrets", json={"name": "ours", "values": {"A": "1"}})
        await client.post("/v1/apps/none/stop", headers={ENVIRONMENT: "staging"})
    secrets = frozenset({Permission.SECRETS, Permission.READ})

    async def seen(**caller):
        return [e.target for e in await entries(server, **caller)]

    assert ["acme", "theirs", "ours", "none"] == await seen()
    assert ["theirs"] == await seen(workspace="acme", permissions=secrets)
    assert ["acme", "ours", "none"] == await seen(permissions=secrets)
    assert ["ours"] == await seen(environments=frozenset({"main"}), permissions=secrets)
    for permission in (Permission.READ, Permission.DEPLOY):
        async with of(server, permissions=frozenset({permission})) as client:
            assert 403 == (await client.get("/v1/audit")).status_code

    # another workspace of the same name does not see what was there before
    async with http(OwnSocket(server.api.app())) as client:
        assert 200 == (await client.delete("/v1/workspaces/acme")).status_code
        assert 200 == (await client.post("/v1/workspaces", json={"name": "acme"})).status_code
    assert [] == await seen(workspace="acme", permissions=secrets)
