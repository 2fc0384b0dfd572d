"""Two environments, and two workspaces, have things of the same names, and reach nothing of each other."""

import contextlib
import dataclasses

import httpx
import pytest

from homeport.contract import frames
from homeport.contract.calls import ENVIRONMENT, KEY, endpoint_id
from homeport.contract.errors import (
    BadRequest,
    LabelTaken,
    NotFound,
    SecretMissing,
    StorageError,
)
from homeport.contract.manifest import SecretRef, VolumeMount
from homeport.contract.permissions import Permission
from homeport.contract.scope import MAIN, Scope
from homeport.control.api.access import Caller, Guard, Inside, OwnSocket
from homeport.control.api.bearer import Bearer
from homeport.control.fleet.owner import Owner
from homeport.state.environments import Environments
from tests.control.api.served import api_of
from tests.control.plane import Plane, function, manifest

STAGING, ACME = Scope(environment="staging"), Scope(workspace="acme")


@pytest.fixture
async def server(tmp_path):
    async with Plane(tmp_path) as plane, api_of(plane, tmp_path) as server:
        server.plane = plane
        yield server


@contextlib.asynccontextmanager
async def client(app, **headers):
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://homeport", headers=headers
    ) as http:
        yield http


def of(server, scope):
    """Return the API as a user of a workspace sees it, who names an environment."""
    caller = Caller(by="token", workspace=scope.workspace)
    app = Guard(server.api.app(), lambda _scope: caller)
    return client(app, **{ENVIRONMENT: scope.environment})


def inside(server, key, **headers):
    """Return the API as code in a container sees it, which sends this key."""
    by_key = server.plane.environments.by_key
    return client(Inside(server.api.inside(), by_key), **{KEY: key, **headers})


async def made(server):
    async with client(OwnSocket(server.api.app())) as http:
        for path, name in (("environments", "staging"), ("workspaces", "acme")):
            assert (await http.post(f"/v1/{path}", json={"name": name})).status_code == 200


async def deploy(plane, scope, *functions):
    wanted = manifest(*functions)
    return await plane.deployer.deploy(
        scope, "shop", wanted, tag="", strategy="rolling", say=lambda _text: None
    )


async def test_an_environment_is_created_listed_changed_and_deleted(server):
    async with client(OwnSocket(server.api.app())) as http:
        first = await http.post("/v1/environments", json={"name": "Staging_2"})
        again = await http.post("/v1/environments", json={"name": "Staging_2"})
        taken = await http.post("/v1/environments", json={"name": "b", "web_suffix": "staging-2"})
        none = await http.post("/v1/environments", json={"name": "c", "web_suffix": ""})
        changed = await http.post("/v1/environments/Staging_2", json={"web_suffix": "s"})
        listed = (await http.get("/v1/environments")).json()["environments"]
        gone = await http.delete("/v1/environments/Staging_2")
        main = await http.delete("/v1/environments/main")
        after = (await http.get("/v1/environments")).json()["environments"]

    assert "staging-2" == first.json()["web_suffix"]
    assert [409, 409, 409] == [each.status_code for each in (again, taken, none)]
    assert "s" == changed.json()["web_suffix"]
    assert [("Staging_2", "s"), ("main", "")] == [(e["name"], e["web_suffix"]) for e in listed]
    assert [200, 400] == [gone.status_code, main.status_code]
    assert ["main"] == [each["name"] for each in after]


@pytest.mark.parametrize("name", ["", "-a", "a.b", "en-1", "EN-x", "a b", "x" * 65, "é"])
async def test_a_name_that_no_environment_can_have_is_refused(name, server):
    async with client(OwnSocket(server.api.app())) as http:
        answer = await http.post("/v1/environments", json={"name": name, "web_suffix": "x"})

    assert 400 == answer.status_code


@pytest.mark.parametrize("name", ["", "A", "a--b", "-a", "a-", "a.b", "x" * 41])
async def test_a_workspace_has_a_name_that_urls_can_begin_with(name, server):
    async with client(OwnSocket(server.api.app())) as http:
        assert 400 == (await http.post("/v1/workspaces", json={"name": name})).status_code


async def test_no_two_environments_have_urls_that_begin_alike(server):
    await made(server)
    async with client(OwnSocket(server.api.app())) as http:
        assert 409 == (await http.post("/v1/workspaces", json={"name": "me-staging"})).status_code


async def test_an_unknown_environment_and_another_workspaces_are_not_found(server):
    await made(server)
    for scope in (Scope(environment="prod"), Scope("acme", "staging"), Scope("nobody", "main")):
        async with of(server, scope) as http:
            answer = await http.get("/v1/apps")
            assert 404 == answer.status_code
            assert "no environment" in answer.json()["error"]["message"]


async def test_a_workspace_sees_the_certificates_of_its_own_hosts(server):
    await made(server)
    for scope in (MAIN, ACME):
        await deploy(server.plane, scope, function("f"))
    ours, theirs = (
        next(each.hosts[0] for each in server.plane.ingress.endpoints.values() if each.id == name)
        for name in ("me--shop-f", "acme--shop-f")
    )
    for scope, owns, foreign in ((MAIN, ours, theirs), (ACME, theirs, ours)):
        async with of(server, scope) as http:
            renewed = [
                (await http.post(f"/v1/certificates/{host}/renew")).status_code
                for host in (owns, foreign)
            ]
            seen = (await http.get("/v1/certificates")).json()["certificates"]
            listed = [each["host"] for each in seen]
        if scope == ACME:
            assert [200, 404] == renewed
            assert owns in listed
            assert {foreign, "a.test"}.isdisjoint(listed)
        else:  # the whole server
            assert [200, 200] == renewed
            assert {owns, foreign} <= set(listed)


async def test_a_token_of_an_environment_opens_that_one_alone(server):
    await made(server)
    _, bearer = await server.api_tokens.create(
        workspace="main",
        name="ci",
        user="ada",
        scopes=(Permission.DEPLOY,),
        environments=("staging",),
        expires_s=None,
    )
    app = Bearer(server.api.app(), server.api_tokens)
    answers = {}
    for name in ("staging", "main", ""):
        headers = {"Authorization": f"Bearer {bearer}", **({ENVIRONMENT: name} if name else {})}
        async with client(app, **headers) as http:
            answers[name] = await http.get("/v1/apps")
            seen = (await http.get("/v1/environments")).json()["environments"]
            assert ["staging"] == [each["name"] for each in seen]

    assert [200, 403, 403] == [each.status_code for each in answers.values()]
    assert "`-e NAME`" in answers[""].json()["error"]["hint"]


async def test_an_unknown_environments_error_names_those_that_the_token_is_for(server):
    await made(server)
    told = {}
    for known in (None, frozenset({"staging", "gone"})):
        caller = Caller(by="token", environments=known)
        async with client(
            Guard(server.api.app(), lambda _scope, caller=caller: caller), **{ENVIRONMENT: "gone"}
        ) as http:
            told[known is None] = (await http.get("/v1/secrets")).json()["error"]["hint"]

    assert told[True].startswith("there is `main`, `staging`; ")
    assert told[False].startswith("there is `staging`; ")


async def test_the_port_of_visitors_tells_no_numbers_where_several_workspaces_have_code(server):
    """Code of each workspace is on the machine, and so are its requests."""
    async with client(OwnSocket(server.api.app()), **{"X-Homeport-By-Port": "1"}) as http:
        alone = await http.get("/metrics")
        await made(server)
        shared = await http.get("/metrics")
        secrets = await http.get("/v1/environments")

    assert (200, 403) == (alone.status_code, shared.status_code)
    assert "several workspaces" in shared.text
    assert 200 == secrets.status_code  # HAProxy sends `/metrics` alone


async def test_a_user_of_a_workspace_sees_and_changes_nothing_of_another(server):
    await made(server)
    await deploy(server.plane, MAIN, function("f"))
    async with of(server, MAIN) as http:
        await http.post("/v1/secrets", json={"name": "auth", "values": {"A": "1"}})
        await http.post("/v1/dicts", json={"name": "stock"})
        await http.post("/v1/domains", json={"domain": "shop.example.test", "app": "shop"})
        volume = (await http.post("/v1/volumes", json={"name": "models"})).json()["id"]
        container = (await http.get("/v1/containers")).json()["containers"][0]["id"]

    async with of(server, ACME) as http:
        lists = [
            (await http.get(f"/v1/{path}")).json()
            for path in (
                *("apps", "containers", "secrets", "dicts", "queues", "volumes", "spawned"),
                *("domains", "certificates"),
            )
        ]
        refused = [
            (await http.request(method, f"/v1/{path}", json={})).status_code
            for method, path in (
                ("GET", "apps/shop"),
                ("GET", "apps/shop/logs"),
                ("GET", "apps/shop/history"),
                ("GET", "apps/shop/cold-starts"),
                ("POST", "apps/shop/stop"),
                ("GET", "functions/shop/f"),
                ("POST", "functions/shop/f/scaling"),
                ("POST", f"containers/{container}/stop"),
                ("DELETE", "secrets/auth"),
                ("DELETE", "domains/shop.example.test"),
                ("GET", "dicts/stock"),
                ("GET", f"volumes/{volume}"),
                ("DELETE", f"volumes/{volume}"),
            )
        ]
        status = (await http.get("/v1/status")).json()["apps"]
        metrics = (await http.get("/metrics")).text
        server_wide = [
            (await http.request(method, path, json={"name": "x"})).status_code
            for method, path in (
                ("POST", "/v1/shutdown"),
                ("GET", "/v1/images"),
                ("POST", "/v1/images/prune"),
                ("GET", "/v1/workspaces"),
                ("POST", "/v1/workspaces"),
                ("DELETE", "/v1/workspaces/main"),
            )
        ]

    assert [[]] * 9 == [value for each in lists for value in each.values()]
    assert [404] * 13 == refused
    assert [] == status
    assert "shop" not in metrics
    assert [403] * 6 == server_wide
    assert [] == server.asked


async def test_a_container_reaches_its_own_environment_alone(server):
    await made(server)
    plane = server.plane
    for scope in (MAIN, STAGING, ACME):
        async with of(server, scope) as http:
            await http.post("/v1/dicts", json={"name": "stock"})
            body = frames.pack([b"key", str(scope).encode()])
            await http.post("/v1/dicts/stock/put", content=body)

    for scope in (MAIN, STAGING, ACME):
        async with inside(server, plane.environments.key(scope)) as http:
            answer = await http.post("/v1/dicts/stock/get", content=frames.pack([b"key"]))
            assert [str(scope).encode()] == frames.unpack(answer.content)
    async with inside(server, plane.environments.key(STAGING), **{ENVIRONMENT: "main"}) as http:
        assert 404 == (await http.get("/v1/dicts/stock")).status_code
    for key in ("", "main", plane.environments.key(MAIN)[:-1]):
        async with inside(server, key) as http:
            assert 401 == (await http.get("/v1/dicts/stock")).status_code


async def test_apps_of_one_name_have_urls_calls_and_pools_of_their_own(server):
    await made(server)
    plane = server.plane
    for scope in (MAIN, STAGING, ACME):
        await deploy(plane, scope, function("f", secret=str(scope)))

    hosts = tuple(each for each in plane.ingress.endpoints if each.endswith("--shop-f"))
    assert 3 == len(set(hosts))
    orders = [await plane.visit(host) for host in hosts]
    assert {MAIN, STAGING, ACME} == {order.within for order in orders}
    assert 3 == len({order.key for order in orders})
    live = plane.parts.live
    await plane.deployer.stop_app(STAGING, "shop")
    assert live.get(Owner.app(STAGING, "shop")) is None
    assert live.get(Owner.app(MAIN, "shop")) is not None
    assert live.get(Owner.app(ACME, "shop")) is not None


async def test_a_script_cannot_use_a_secret_or_a_volume_of_another_environment(server):
    await made(server)
    for given in (
        {"secrets": (SecretRef(name="auth", environment="main"),)},
        {"volumes": (VolumeMount(path="/data", name="models", create=True, environment="main"),)},
    ):
        wanted = manifest(function("f"))
        spec = wanted.functions[0]
        wanted = dataclasses.replace(wanted, functions=(dataclasses.replace(spec, **given),))
        with pytest.raises(Exception, match="is of the environment `main`"):
            await server.plane.deployer.deploy(
                STAGING, "shop", wanted, tag="", strategy="rolling", say=lambda _text: None
            )


async def test_a_deleted_environment_leaves_nothing_for_a_later_one_of_its_name(server):
    await made(server)
    plane = server.plane
    await deploy(plane, STAGING, function("f"))
    async with of(server, STAGING) as http:
        await http.post("/v1/secrets", json={"name": "auth", "values": {"A": "1"}})
        await http.post("/v1/dicts", json={"name": "stock"})
        await http.post("/v1/volumes", json={"name": "models"})
        await http.post("/v1/domains", json={"domain": "shop.example.test", "app": "shop"})
        assert 200 == (await http.delete("/v1/environments/staging")).status_code
        assert 404 == (await http.get("/v1/apps")).status_code
        await http.post("/v1/environments", json={"name": "staging"})
        lists = [
            (await http.get(f"/v1/{path}")).json()
            for path in ("apps", "containers", "secrets", "dicts", "volumes", "domains")
        ]

    assert [[]] * 6 == [value for each in lists for value in each.values()]
    assert {} == plane.ingress.endpoints


async def test_the_key_of_a_deleted_environment_opens_no_later_one_of_its_name(server):
    await made(server)
    environments = server.plane.environments
    for scope, path in ((STAGING, "environments/staging"), (ACME, "workspaces/acme")):
        before = environments.key(scope)
        async with client(OwnSocket(server.api.app())) as http:
            assert 200 == (await http.delete(f"/v1/{path}")).status_code
            kind, name = path.split("/")
            between = environments.key(scope)
            assert 200 == (await http.post(f"/v1/{kind}", json={"name": name})).status_code
        after = environments.key(scope)

        assert 3 == len({before, between, after})
        assert scope == environments.by_key(after)
        for key in (before, between):
            assert environments.by_key(key) is None
            async with inside(server, key) as http:
                assert 401 == (await http.get("/v1/dicts/stock")).status_code


async def test_the_writes_of_a_late_request_are_not_in_a_later_environment_of_the_name(server):
    await made(server)
    plane = server.plane
    boxes, volumes = plane.secrets.of(STAGING), plane.every_volumes.of(STAGING)
    async with client(OwnSocket(server.api.app())) as http:
        await http.delete("/v1/environments/staging")
        # These requests had found the environment before.
        await boxes.create("auth", {"A": "1"}, force=False)
        await plane.secrets.of(STAGING).create("late", {"A": "1"}, force=False)
        late = await volumes.create("models")
        with pytest.raises(NotFound, match="no environment"):
            await plane.deployer.rollback(
                STAGING, "shop", 1, strategy="rolling", say=lambda _text: None
            )
        await http.post("/v1/environments", json={"name": "staging"})
    async with of(server, STAGING) as http:
        lists = [(await http.get(f"/v1/{path}")).json() for path in ("secrets", "volumes")]

    assert [[]] * 2 == [value for each in lists for value in each.values()]
    with pytest.raises(SecretMissing):
        named = dataclasses.replace(function("f"), secrets=(SecretRef(name="auth"),))
        plane.secrets.of(STAGING).check(named)
    folder = plane.settings.volumes_dir / "main" / "staging"
    assert not (folder / late.id).exists()


async def test_no_request_finds_an_environment_that_is_being_made(server):
    environments = server.plane.environments
    await environments.create(STAGING)
    await environments.create_workspace("acme")

    for scope in (STAGING, ACME):
        assert environments.by_key(environments.key(scope)) is None
        with pytest.raises(NotFound):
            environments.find(scope)
    with pytest.raises(NotFound):
        environments.find_workspace("acme")
    environments.reopen(STAGING)
    assert STAGING == environments.find(STAGING).scope


async def test_an_environment_that_cannot_be_opened_is_not_made(server, monkeypatch):
    volumes = server.plane.every_volumes

    async def fails():
        raise StorageError("the disk is full")

    async with client(OwnSocket(server.api.app())) as http:
        for path, name, scope in (
            ("environments", "staging", STAGING),
            ("workspaces", "acme", ACME),
        ):
            monkeypatch.setattr(volumes.of(scope), "load", fails)
            monkeypatch.setattr(volumes, "forget", lambda _scope: None)
            assert 507 == (await http.post(f"/v1/{path}", json={"name": name})).status_code
            monkeypatch.undo()
            assert 200 == (await http.post(f"/v1/{path}", json={"name": name})).status_code


async def test_the_servers_admin_lists_and_deletes_the_tokens_of_a_workspace(server):
    await made(server)
    async with client(OwnSocket(server.api.app())) as http:
        wanted = {"scopes": ["deploy"], "user": "ann", "workspace": "acme"}
        ids = [(await http.post("/v1/tokens", json=wanted)).json()["token"]["id"] for _ in range(2)]
        listed = (await http.get("/v1/tokens")).json()["tokens"]
        deleted = await http.delete(f"/v1/tokens/{ids[0]}")
        rest = (await http.delete("/v1/users/ann")).json()["ids"]

    assert [(each, "acme") for each in ids] == [(e["id"], e["workspace"]) for e in listed]
    assert 204 == deleted.status_code
    assert [ids[1]] == rest
    assert [] == server.api_tokens.every(None)


async def test_a_session_takes_no_custom_domain_from_another_workspaces_session(server):
    await made(server)
    wanted = function("f")
    web = dataclasses.replace(wanted.web[0], custom_domains=("shop.example.test",))
    wanted = manifest(dataclasses.replace(wanted, web=(web,)))
    deployer = server.plane.deployer
    await deployer.sessions.serve(MAIN, "one", wanted, lambda _text: None)
    with pytest.raises(LabelTaken, match="belongs to another workspace"):
        await deployer.sessions.serve(ACME, "two", wanted, lambda _text: None)

    await deployer.sessions.serve(MAIN, "three", wanted, lambda _text: None)


async def test_the_setting_workspace_cannot_become_the_name_of_another_one(server):
    await made(server)
    database = server.plane.database
    for slug in ("acme", "acme--b"):
        with pytest.raises(BadRequest, match="begin with `acme"):
            await Environments(database, str, slug=slug).load()
    await Environments(database, str, slug="acme-b").load()


def test_the_id_of_a_functions_endpoint_is_found_with_the_environments_key_alone():
    assert endpoint_id("shop", "f", key="a") != endpoint_id("shop", "f", key="b")
