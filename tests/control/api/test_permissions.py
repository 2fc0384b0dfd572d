"""Each route needs a permission, and a caller without it gets 403 and changes nothing."""

import json

import httpx
import pytest
from websockets.asyncio.client import unix_connect

from homeport.contract.permissions import Permission
from homeport.control.api import programs, routes, routing
from homeport.control.api.access import Caller, Guard
from homeport.control.api.listener import listening, unix_socket
from tests.control.api.served import api_of
from tests.control.plane import Plane

ROUTES = [each for noun in routes.NOUNS for each in routing.described(noun)]
#: The routes that need more or less than their method says.
OTHERS = {
    "POST /v1/shutdown": Permission.ADMIN,
    "POST /v1/images/prune": Permission.ADMIN,
    "POST /v1/dashboard": Permission.READ,
    "DELETE /v1/dashboard/session": Permission.READ,
    "GET /v1/secrets": Permission.SECRETS,
    "POST /v1/secrets": Permission.SECRETS,
    "DELETE /v1/secrets/{name}": Permission.SECRETS,
    "GET /v1/proxy-tokens": Permission.SECRETS,
    "POST /v1/proxy-tokens": Permission.SECRETS,
    "DELETE /v1/proxy-tokens/{id}": Permission.SECRETS,
    "POST /v1/proxy-tokens/{id}/rotate": Permission.SECRETS,
    "GET /v1/environment": Permission.DEPLOY,
    "GET /v1/captures": Permission.DEPLOY,
    "GET /v1/captures/{id}": Permission.DEPLOY,
    "GET /v1/captures/mirror": Permission.DEPLOY,
    "DELETE /v1/environments/{name}": Permission.SECRETS,
    "GET /v1/workspaces": Permission.ADMIN,
    "POST /v1/workspaces": Permission.ADMIN,
    "DELETE /v1/workspaces/{name}": Permission.ADMIN,
    "GET /v1/audit": Permission.SECRETS,
    "GET /v1/tokens": Permission.ADMIN,
    "POST /v1/tokens": Permission.ADMIN,
    "DELETE /v1/tokens/{id}": Permission.ADMIN,
    "DELETE /v1/users/{user}": Permission.ADMIN,
    "GET /v1/nodes": Permission.ADMIN,
    "POST /v1/nodes/tokens": Permission.ADMIN,
    "GET /v1/nodes/{name}/logs": Permission.ADMIN,
    "POST /v1/nodes/{name}/labels": Permission.ADMIN,
    "POST /v1/nodes/{name}/drain": Permission.ADMIN,
    "DELETE /v1/nodes/{name}": Permission.ADMIN,
}
#: They change nothing, and are a POST because the keys are in the body.
LOOKS = {"POST /v1/dicts/{name}/get", "POST /v1/dicts/{name}/contains"}


def name(each):
    return f"{each.method} {each.path}"


@pytest.fixture
async def server(tmp_path):
    async with Plane(tmp_path) as plane, api_of(plane, tmp_path) as server:
        server.home = tmp_path
        yield server


def guarded(server, permissions):
    caller = Caller(by="token", permissions=frozenset(permissions))
    return Guard(server.api.app(), lambda _scope: caller)


def test_each_route_needs_the_permission_of_its_kind():
    usual = {name(each): each for each in ROUTES if name(each) not in OTHERS}

    assert OTHERS == {name(each): each.needs for each in ROUTES if name(each) in OTHERS}
    for route, each in usual.items():
        reads = each.method == "GET" or route in LOOKS
        assert each.needs is (Permission.READ if reads else Permission.DEPLOY), route


@pytest.mark.parametrize("given", [(), tuple(Permission)], ids=["nothing", "all others"])
async def test_no_route_answers_a_caller_without_its_permission(server, given):
    for each in ROUTES:
        app = guarded(server, set(given) - {each.needs})
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://homeport"
        ) as http:
            answer = await http.request(each.method, each.path.replace("{", "").replace("}", ""))

        error = answer.json()["error"]
        assert (403, "Forbidden") == (answer.status_code, error["kind"]), name(each)
        assert f"needs a token with the scope `{each.needs.value}`" in error["message"]
        assert f"homeport token create --scope {each.needs.value}" in error["hint"]
    assert [] == server.asked


async def test_no_program_runs_for_a_caller_without_the_permission(server):
    path = server.home / "s"
    app = guarded(server, set(Permission) - {Permission.DEPLOY})
    async with (
        listening(app, unix_socket(path)),
        unix_connect(str(path), f"ws://homeport{programs.PATH}?container=ta-x") as socket,
    ):
        error = json.loads(await socket.recv())["error"]

    assert "Forbidden" == error["kind"]
    assert "needs a token with the scope `deploy`, and this one has `read`" in error["message"]
