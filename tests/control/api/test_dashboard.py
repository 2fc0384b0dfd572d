"""A session of the dashboard is the caller's own, and no other container than the dashboard's gains anything by it."""

import httpx
import pytest

from homeport.contract.api.dashboard import SESSION_S, VISITOR
from homeport.contract.calls import ENVIRONMENT, KEY
from homeport.contract.errors import BadRequest, NotFound
from homeport.contract.permissions import Permission
from homeport.contract.scope import MAIN, SYSTEM, Scope
from homeport.control.api import bearer
from homeport.control.api.access import Caller, Guard, Inside, OwnSocket
from homeport.control.api.attempts import MOST, WrongTokens
from homeport.control.api.bearer import Bearer
from homeport.control.deploys import dashboard
from homeport.state import api_tokens
from tests.control.api.served import api_of
from tests.control.plane import Plane, function, manifest


@pytest.fixture
async def server(tmp_path):
    async with Plane(tmp_path) as plane, api_of(plane, tmp_path) as server:
        server.plane = plane
        yield server


def http(app, **headers):
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://homeport", headers=headers)


def container(server, scope, **headers):
    """Return the API as the code in a container of an environment sees it."""
    guarded = Bearer(
        server.api.app(),
        server.api_tokens,
        wrong=WrongTokens(),
        source=bearer.address_from_dashboard,
    )
    by_key = server.plane.environments.by_key
    app = Inside(server.api.inside(), by_key, dashboard=guarded)
    return http(app, **{KEY: server.plane.environments.key(scope), **headers})


def commands(server, token=""):
    """Return the API for a user's commands: by a token, or by the server's own socket."""
    if not token:
        return http(OwnSocket(server.api.app()))
    return http(Bearer(server.api.app(), server.api_tokens), Authorization=f"Bearer {token}")


async def code(server, token=""):
    async with commands(server, token) as client:
        answer = await client.post("/v1/dashboard")
    assert 200 == answer.status_code, answer.text
    return answer.json()["url"].partition("/login#")[2]


async def login(server, given):
    async with container(server, SYSTEM) as client:
        return await client.post("/v1/dashboard/session", json={"code": given})


async def session(server, token=""):
    answer = await login(server, await code(server, token))
    assert 200 == answer.status_code, answer.text
    return answer.json()["secret"]


async def token_of(server, **given):
    wanted = {"workspace": "main", "name": "ci", "user": "ada", "scopes": (Permission.DEPLOY,)}
    wanted |= {"environments": ("main",), "expires_s": None}
    return await server.api_tokens.create(**{**wanted, **given})


async def identity(server, secret, **headers):
    headers["Authorization"] = f"Bearer {secret}"
    async with container(server, SYSTEM, **headers) as client:
        return await client.get("/v1/identity")


async def test_a_session_may_do_what_its_caller_may(server):
    row, secret = await token_of(server)
    told = (await identity(server, await session(server, secret))).json()

    assert ("ada", ["main"], ["read", "deploy"]) == (
        told["user"],
        told["environments"],
        told["permissions"],
    )
    assert f"{api_tokens.SESSION} of {row.id}" == told["token"]["name"]
    lasts_s = told["token"]["expires_at"] - told["token"]["created_at"]
    assert pytest.approx(SESSION_S) == lasts_s


async def test_the_servers_own_user_is_an_admin(server):
    told = (await identity(server, await session(server))).json()

    assert ["read", "deploy", "secrets", "admin"] == told["permissions"]
    assert "main" == told["token"]["workspace"]


async def test_a_session_never_outlives_the_token_that_made_it(server):
    row, secret = await token_of(server, expires_s=60.0)
    made = await session(server, secret)
    token = (await identity(server, made)).json()["token"]

    assert token["expires_at"] <= row.expires_at
    await server.api_tokens.delete("main", row.id)
    assert 401 == (await identity(server, made)).status_code


async def test_a_session_of_a_session_ends_with_the_first_token(server):
    row, secret = await token_of(server)
    made = await session(server, await session(server, secret))
    await server.api_tokens.delete("main", row.id)

    assert [] == server.api_tokens.every(None)
    assert 401 == (await identity(server, made)).status_code


async def test_a_link_works_once(server):
    given = await code(server)

    assert 200 == (await login(server, given)).status_code
    assert 401 == (await login(server, given)).status_code


async def test_a_link_of_a_deleted_token_opens_nothing(server):
    row, secret = await token_of(server)
    given = await code(server, secret)
    await server.api_tokens.delete("main", row.id)

    assert 401 == (await login(server, given)).status_code
    assert [] == server.api_tokens.every(None)


async def test_the_number_of_sessions_of_a_token_is_bounded(server):
    _, secret = await token_of(server)
    first, *others = [await session(server, secret) for _ in range(api_tokens.MAX_SESSIONS + 1)]

    assert 401 == (await identity(server, first)).status_code
    assert 200 == (await identity(server, others[0])).status_code
    assert api_tokens.MAX_SESSIONS + 1 == len(server.api_tokens.every(None))


async def test_a_logout_deletes_the_sessions_token_alone(server):
    row, secret = await token_of(server)
    made = await session(server, secret)
    async with commands(server, secret) as client:
        assert 404 == (await client.delete("/v1/dashboard/session")).status_code
    async with container(server, SYSTEM, Authorization=f"Bearer {made}") as client:
        assert 204 == (await client.delete("/v1/dashboard/session")).status_code
        assert 401 == (await client.get("/v1/identity")).status_code

    assert [row.id] == [each.id for each in server.api_tokens.every(None)]


async def test_the_audit_log_says_who_logged_in(server):
    row, secret = await token_of(server)
    await session(server, secret)
    await login(server, "wrong")  # makes no row: strangers could fill the log
    async with commands(server) as client:
        entries = (await client.get("/v1/audit")).json()["entries"]

    assert [("dashboard link", row.id), ("dashboard login", row.id)] == [
        (each["action"], each["token"]) for each in entries
    ]


async def test_a_container_other_than_the_dashboards_may_do_no_more_by_a_token(server):
    """With the key of its own environment, a container has few routes, whatever else it sends."""
    _, secret = await token_of(server, scopes=(Permission.ADMIN,), environments=())
    given = await code(server)
    keys = server.plane.environments.key
    both = [(KEY, keys(MAIN)), (KEY, keys(SYSTEM))]
    async with container(server, MAIN, Authorization=f"Bearer {secret}") as client:
        assert 404 == (await client.get("/v1/identity")).status_code
        assert 404 == (await client.get("/v1/tokens")).status_code
        refused = await client.post("/v1/dashboard/session", json={"code": given})
        assert 404 == refused.status_code
        client.headers = httpx.Headers([*both, ("Authorization", f"Bearer {secret}")])
        assert 401 == (await client.get("/v1/identity")).status_code

    assert 200 == (await login(server, given)).status_code, "the code was not used up"


async def test_the_dashboards_container_alone_sees_nothing(server):
    """Without a visitor's token it can log somebody in, and see what is in its own environment, which is nothing."""
    async with container(server, SYSTEM) as client:
        assert 404 == (await client.get("/v1/apps")).status_code
        assert 404 == (await client.get("/v1/status")).status_code
        assert [] == (await client.get("/v1/dicts")).json()["objects"]
    async with container(server, SYSTEM, **{ENVIRONMENT: "staging"}) as client:
        assert 404 == (await client.get("/v1/dicts")).status_code


async def test_wrong_tokens_count_against_their_visitor(server):
    _, secret = await token_of(server)
    headers = {VISITOR: "192.0.2.1", "Authorization": "Bearer wrong"}
    async with container(server, SYSTEM, **headers) as client:
        statuses = [(await client.get("/v1/identity")).status_code for _ in range(MOST + 1)]
        headers = {VISITOR: "192.0.2.2", "Authorization": "Bearer wrong"}
        other = (await client.get("/v1/identity", headers=headers)).status_code
        headers = {"Authorization": f"Bearer {secret}"}
        right = (await client.get("/v1/identity", headers=headers)).status_code

    assert (429, 401, 200) == (statuses[-1], other, right)


async def test_nobody_can_name_or_see_the_dashboards_environment(server):
    await session(server)
    environments = server.plane.environments
    async with commands(server) as client:
        status = (await client.get("/v1/status")).json()
        workspaces = (await client.get("/v1/workspaces")).json()["workspaces"]
        for name in (".homeport", SYSTEM.workspace):
            body = {"name": "x", "scopes": ["read"], "workspace": name}
            assert 404 == (await client.post("/v1/tokens", json=body)).status_code
            assert 400 == (await client.post("/v1/workspaces", json={"name": name})).status_code
            asked = await client.get("/v1/apps", headers={ENVIRONMENT: name})
            assert 404 == asked.status_code
        assert [] == (await client.get("/v1/containers")).json()["containers"]
        assert "dashboard" not in (await client.get("/metrics")).text

    assert ([], ["main"]) == (status["apps"], [each["name"] for each in workspaces])
    assert environments.is_alone
    with pytest.raises(NotFound):
        environments.find_workspace(SYSTEM.workspace)


async def test_no_user_gives_a_token_the_name_of_a_session(server):
    async with commands(server) as client:
        body = {"name": f"{api_tokens.SESSION} of ak-1", "scopes": ["read"]}
        assert 400 == (await client.post("/v1/tokens", json=body)).status_code


async def test_the_port_of_visitors_gets_no_link(server):
    caller = Caller(by="port", permissions=frozenset({Permission.READ}))
    async with http(Guard(server.api.app(), lambda _scope: caller)) as client:
        assert 401 == (await client.post("/v1/dashboard")).status_code


async def test_another_version_of_homeport_deploys_the_dashboard_again(server, monkeypatch):
    own = dashboard.Dashboard(server.plane.deployer)
    await own.url()
    await own.url()
    first = (await server.plane.stores.of(SYSTEM).app("dashboard")).version
    monkeypatch.setattr(dashboard, "__version__", "9.9.9+local")
    await own.url()

    assert (1, 2) == (first, (await server.plane.stores.of(SYSTEM).app("dashboard")).version)


async def test_without_the_extra_the_error_says_what_to_type(server, monkeypatch):
    monkeypatch.setattr(dashboard, "NEEDS", "nothing_of_this_name")

    with pytest.raises(BadRequest) as caught:
        await dashboard.Dashboard(server.plane.deployer).url()
    assert "homeport[dashboard]" in caught.value.hint


async def test_a_workspace_that_has_the_dashboards_url_keeps_it(server):
    """It was made by an earlier version of homeport."""
    environments = server.plane.environments
    environments._system_source = "homeport-system"
    await environments.create_workspace("homeport")
    environments.reopen(Scope("homeport"))
    await server.plane.deployer.deploy(
        Scope("homeport"), "shop", manifest(function("f")), tag="", strategy="rolling", say=print
    )
    await environments.load()

    assert ("homeport", "homeport-system") == (
        environments.source(Scope("homeport")),
        environments.source(SYSTEM),
    )
