"""No route of the API gives a caller anything of another workspace: each of the table's routes is asked."""

import asyncio
import dataclasses
import hashlib
import json
import typing
import urllib.parse
import uuid
from collections.abc import Iterable

import pytest
import sqlalchemy

from homeport.contract import frames
from homeport.contract.calls import ENVIRONMENT
from homeport.contract.capacity import Capacity
from homeport.contract.captured import Captured, Message
from homeport.contract.errors import Failure, NotFound
from homeport.contract.manifest import (
    CallMethod,
    FunctionSpec,
    SecretRef,
    SourceFile,
    VolumeMount,
)
from homeport.contract.permissions import Permission
from homeport.contract.scope import MAIN, Scope
from homeport.control.api import routes, routing
from homeport.control.api.access import Caller, Guard, OwnSocket
from homeport.control.fleet import tunnels
from homeport.state import tables
from homeport.state.captures import Captures
from homeport.state.deploys import Deploys
from homeport.state.requests import Place
from homeport.state.usage import Sample
from tests import trees
from tests.control.api.served import api_of
from tests.control.api.test_environments import client, deploy, of
from tests.control.plane import Plane, function, manifest
from tests.fakes import FakeNode
from tests.recorded import words

#: Those that only read come first, when ACME has nothing yet.
ROUTES = sorted(
    (each for noun in routes.NOUNS for each in routing.described(noun)),
    key=lambda route: route.method != "GET",
)
ACME, GLOBEX = Scope("acme"), Scope("globex")
#: The name of each thing of GLOBEX. Each value, user and URL of it has `globex` in it.
NAME = "treasure"
DOMAIN = f"{NAME}.example.test"
CALL = "fc-" + "1" * 40
REPORTS = frames.pack(
    [f"call={CALL}&container=x".encode(), b"", f"call={CALL}&kind=value".encode(), b""]
)
NO_CALLS = '{"calls":[]}'
PAIR = frames.pack([NAME.encode(), b"gold of globex"])
CALLED = (CallMethod(tag="g", attribute="g"),)
#: Its containers stay for as long as the test may take.
KEEPING = {"scaledown_window_s": 3600.0}
G = FunctionSpec(name="g", module="script", qualname="g", calls=CALLED, **KEEPING)
KEYS = frames.pack([NAME.encode()])
FILE = b"the will of globex"
SHA256 = hashlib.sha256(FILE).hexdigest()
#: They are about the server as a whole, and refused for the callers of one workspace.
OF_SERVER = {
    "POST /v1/shutdown",
    "GET /v1/images",
    "GET /v1/images/{key}/log",
    "POST /v1/images/prune",
    "GET /v1/workspaces",
    "POST /v1/workspaces",
    "DELETE /v1/workspaces/{name}",
    "GET /v1/nodes",
    "POST /v1/nodes/tokens",
    "GET /v1/nodes/{name}/logs",
    "POST /v1/nodes/{name}/labels",
    "POST /v1/nodes/{name}/drain",
    "DELETE /v1/nodes/{name}",
}
#: Bodies and queries that a handler accepts, where those of `guessed` are refused.
MANIFEST = dataclasses.asdict(manifest(function("f"), G, app=NAME))
TOKEN = {"name": NAME, "user": NAME, "scopes": ["deploy"]}
BODIES: dict[str, object] = {
    "POST /v1/apps/{name}/deploy": {"manifest": MANIFEST},
    "POST /v1/serve": {"manifest": MANIFEST},
    "PUT /v1/serve/{id}": {"manifest": MANIFEST},
    "POST /v1/alerts": {"name": NAME, "kind": "errors", "url": "https://a.test/x"},
    "POST /v1/tokens": {**TOKEN, "workspace": "globex"},
    "POST /v1/nodes/{name}/labels": {"labels": {"region": "eu"}},
    "POST /v1/domains": {"domain": DOMAIN, "app": NAME},
    "POST /v1/rate-limits": {"app": NAME, "rate": "1/s"},
    "POST /v1/blobs/missing": {"hashes": [SHA256]},
    "PUT /v1/blobs/{sha256}": FILE,
    "POST /v1/spawned/reports": REPORTS,
    "POST /v1/dicts/{name}/get": KEYS,
    "POST /v1/dicts/{name}/contains": KEYS,
    "POST /v1/dicts/{name}/pop": KEYS,
}
QUERIES = {
    "/v1/volumes/{name}/file": {"path": NAME, "force": "1"},
    "/v1/spawned": {"id": CALL, "app": NAME, "function": "g"},
    "/v1/spawned/{id}/cancel": {"terminate": "1"},
    "/v1/requests": {"since": "1"},
    "/v1/requests/live": {"tail": "10"},
    "/v1/series": {"since": "1699999000", "until": "1700001000"},
}


@pytest.fixture
async def server(tmp_path):
    node = FakeNode(0.01, capacity=Capacity(cores=4, memory_mib=4096, has_mounts=True))
    async with Plane(tmp_path, node) as plane, api_of(plane, tmp_path) as server:
        server.plane = plane
        async with client(OwnSocket(server.api.app())) as http:
            for scope in (ACME, GLOBEX):
                await http.post("/v1/workspaces", json={"name": scope.workspace})
        yield server


async def filled(server) -> dict[str, list[str]]:
    """Give GLOBEX one of everything; return what routes find its things by, if not by NAME alone, by the second part of their paths."""
    plane = server.plane
    await plane.deployer.deploy(
        GLOBEX,
        NAME,
        manifest(function("f", min_containers=1, **KEEPING), G, app=NAME),
        tag="globex",
        strategy="rolling",
        say=lambda _text: None,
    )
    async with of(server, GLOBEX) as http:

        async def ask(method, path, **rest):
            answer = await http.request(method, f"/v1/{path}", **rest)
            assert answer.status_code < 300, (path, answer.text)
            return answer.json() if answer.content else {}

        await ask("POST", "secrets", json={"name": NAME, "values": {"A": "globex"}})
        ids = {
            kind: (await ask("POST", kind, json={"name": NAME}))["id"]
            for kind in ("dicts", "queues", "volumes")
        }
        await ask("POST", f"dicts/{NAME}/put", content=PAIR)
        await ask("POST", f"queues/{NAME}/put", content=PAIR)
        await ask("PUT", f"volumes/{NAME}/file?path={NAME}", content=FILE)
        await ask("PUT", f"blobs/{SHA256}", content=FILE)
        await ask("POST", "domains", json={"domain": DOMAIN, "app": NAME})
        alert = {"name": NAME, "kind": "errors", "url": "https://globex.test/x", "app": NAME}
        await ask("POST", "alerts", json=alert)
        await ask("POST", "rate-limits", json={"app": NAME, "rate": "9/s"})
        for call, parent in ((CALL, ""), ("fc-" + "2" * 40, CALL)):
            query = f"id={call}&parent={parent}&app={NAME}&function=g"
            await ask("POST", f"spawned?{query}", content=PAIR)
        proxy = await ask("POST", "proxy-tokens", json={"name": "globex"})
        token = await ask("POST", "tokens", json=TOKEN)
        listed = await ask("GET", "containers")
    number = await happened(server)
    return {
        **{kind: [NAME, found] for kind, found in ids.items()},
        "proxy-tokens": [proxy["token_id"]],
        "tokens": [token["token"]["id"]],
        "containers": [each["id"] for each in listed["containers"]],
        "spawned": [CALL],
        "blobs": [SHA256],
        "requests": ["globex-request"],
        "captures": [captured(server)],
        "deploys": [f"{number}"],
        "domains": [DOMAIN],
        "certificates": [DOMAIN, f"globex--{NAME}-f.localhost"],
    }


def captured(server) -> str:
    """Keep a captured request of GLOBEX; return its id."""
    told = Captured(
        id=str(uuid.uuid4()),
        app=NAME,
        method="GET",
        target=f"/{NAME}",
        request=Message(),
        status=200,
        response=Message(),
    )
    Captures(server.plane.settings.home / "captures").add(GLOBEX, told)
    return told.id


async def happened(server) -> int | None:
    """Record what happened in GLOBEX; return the number of a deploy."""
    line = words(id="globex-request", target=f"/{NAME}")
    server.requests.add([line], lambda _endpoint: Place(GLOBEX, NAME, "f"), lambda _name: "")
    sample = Sample(
        app=NAME,
        function="f",
        containers=1,
        cold_starts=1,
        failed_starts=0,
        cpu_s=1.0,
        memory_mib=1,
        gpu_memory_mib=0,
    )
    server.usages.add(1_700_000_000.0, 15.0, {GLOBEX: [sample]})
    deploys = Deploys(server.plane.database)
    return await deploys.begin(GLOBEX, NAME, "deploy", by="token", user="globex")


async def held(server) -> dict[str, str]:
    """Return all that the stores, the disk and the fleet have: a thing's name, and what it is."""
    plane = server.plane

    def rows(connection: sqlalchemy.Connection) -> dict[str, str]:
        return {
            f"{table.name} {row!r}": ""
            for table in tables.metadata.sorted_tables
            for row in connection.execute(table.select())
        }

    found = await plane.database.read(rows)
    for folder in ("volumes", "blobs"):
        for path, content in trees.files(plane.settings.home / folder).items():
            found[str(path)] = repr(content)
    for endpoint, served in plane.ingress.endpoints.items():
        found[f"endpoint {endpoint}"] = repr(served)
    for container in plane.nodes.containers():
        found[f"container {container.id}"] = repr(container.order)
    return found


def guessed(kind: object) -> object:
    """Return a body or a value that names the things of GLOBEX."""
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return {
            field.name: guessed(hints[field.name])
            for field in dataclasses.fields(kind)
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        }
    origin = typing.get_origin(kind) or kind
    if origin is tuple:
        return [guessed(typing.get_args(kind)[0])]
    if origin is dict:
        return {NAME: NAME}
    return {str: NAME, int: 1, float: 1.0, bool: True}.get(origin, NAME)


def content_of(route: routing.Described) -> bytes:
    body = BODIES.get(f"{route.method} {route.path}")
    if body is None:
        body = guessed(route.body) if dataclasses.is_dataclass(route.body) else PAIR
    return body if isinstance(body, bytes) else json.dumps(body).encode()


async def answered(app, route: routing.Described, path: str) -> tuple[int, str]:
    """Return the status and text of an answer; hang up once a session serves or requests are followed: their streams have no end."""
    sent = iter([{"type": "http.request", "body": content_of(route)}])
    left, status, text = asyncio.Event(), 0, ""

    async def receive():
        for message in sent:
            return message
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        nonlocal status, text
        status = message.get("status", status)
        text += message.get("body", b"").decode("utf-8", "replace")
        if '"event":"serving"' in text.replace(" ", "") or (text and "live" in route.path):
            left.set()

    query = QUERIES.get(route.path, {}) if route.query else {}
    scope = {
        "type": "http",
        "method": route.method,
        "path": path,
        "query_string": urllib.parse.urlencode(query).encode(),
        "headers": [(ENVIRONMENT.lower().encode(), ACME.environment.encode())],
    }
    async with asyncio.timeout(60):
        await app(scope, receive, send)
    return status, text


def paths_of(route: routing.Described, known: dict[str, list[str]]) -> list[tuple[str, ...]]:
    """Return a route's paths that name something of GLOBEX, each with what it names."""
    names = [part[1:-1] for part in route.path.split("/") if part.startswith("{")]
    if not names:
        return [(route.path,)]
    if "tag" in names:
        values = [(NAME, "f"), (NAME, "g")]
    else:
        values = [(each,) for each in known.get(route.path.split("/")[2], [NAME])]
    return [(route.path.format(**dict(zip(names, each, strict=True))), *each) for each in values]


def is_kept(route: routing.Described, status: int, text: str, values: Iterable[str]) -> bool:
    """Return whether an answer tells nothing of GLOBEX, to a request that was not refused for its form alone."""
    if f"{route.method} {route.path}" in OF_SERVER:
        return status == 403
    for value in values:  # an error may repeat what was asked for
        text = text.replace(value, "")
    if route.method == "GET" and (NAME in text or (values and status != 404 and text != NO_CALLS)):
        return False
    return "globex" not in text and status not in (400, 500)


async def test_no_route_shows_or_changes_anything_of_another_workspace(server, monkeypatch):
    monkeypatch.setattr(tunnels, "WAIT_S", 0.0)  # a container waits for its URL
    known = await filled(server)
    before = await held(server)
    caller = Caller(by="token", workspace=ACME.workspace)
    app = Guard(server.api.app(), lambda _scope: caller)
    wrong = []
    for route in ROUTES:
        rule = f"{route.method} {route.path}"
        for path, *values in paths_of(route, known):
            status, text = await answered(app, route, path)
            if not is_kept(route, status, text, values):
                wrong.append((rule, path, status, text))
        if route.method != "GET" and not before.items() <= (await held(server)).items():
            wrong.append((rule, before.items() - (await held(server)).items()))
    assert [] == wrong
    assert [] == server.asked  # neither to stay nor to end


async def test_a_hash_opens_no_file_of_another_workspace(server):
    await filled(server)
    answers = {}
    for scope in (ACME, MAIN, GLOBEX):
        async with of(server, scope) as http:
            answer = await http.post("/v1/blobs/missing", json={"hashes": [SHA256]})
            answers[scope] = answer.json()["missing"]
    file = SourceFile(path="stolen.py", sha256=SHA256, size_bytes=len(FILE), mode=0o644)
    wanted = dataclasses.replace(manifest(function("f")), files=(file,))
    with pytest.raises(NotFound, match="was not uploaded"):
        await server.plane.deployer.deploy(
            ACME, "shop", wanted, tag="", strategy="rolling", say=lambda _text: None
        )

    assert {ACME: [SHA256], MAIN: [SHA256], GLOBEX: []} == answers

    async with client(OwnSocket(server.api.app())) as http:
        # A later workspace of the name is another one.
        assert 200 == (await http.delete("/v1/workspaces/globex")).status_code
        assert 200 == (await http.post("/v1/workspaces", json={"name": "globex"})).status_code
    async with of(server, GLOBEX) as http:
        answer = await http.post("/v1/blobs/missing", json={"hashes": [SHA256]})
        assert [SHA256] == answer.json()["missing"]


def given(**fields: object) -> FunctionSpec:
    return dataclasses.replace(function("f"), **fields)


async def test_a_manifest_that_was_written_by_hand_mounts_and_opens_nothing_of_another_workspace(
    server,
):
    """The server itself writes where a volume is, and what an inline secret is called."""
    known = await filled(server)
    plane = server.plane
    inline = SecretRef(values={"A": "globex"})
    theirs = await deploy(plane, GLOBEX, given(secrets=(inline,)))
    (sealed,) = theirs.app.revision.manifest.functions[0].secrets
    (volume,) = known["volumes"][1:]
    keys = (f"globex/main/{volume}", f"acme/main/../../globex/main/{volume}", f"x/{volume}")
    mounts = [VolumeMount(path="/data", name=NAME, key=key) for key in keys]
    mounts += [dataclasses.replace(mount, create=True) for mount in mounts]
    mounts += [
        VolumeMount(path="/data", name=name) for name in (volume, f"../../globex/main/{NAME}")
    ]
    own, secret = VolumeMount(path="/data", name=NAME), SecretRef(name=NAME)
    await deploy(plane, GLOBEX, given(volumes=(own,), secrets=(secret,)))
    for mount in mounts:
        with pytest.raises(Failure):
            await deploy(plane, ACME, given(volumes=(mount,)))
        with pytest.raises(Failure):
            await deploy(plane, ACME, given(build_volumes=(mount,)))
    for name in (NAME, sealed.name, f"globex/main\0{NAME}"):
        with pytest.raises(Failure):
            await deploy(plane, ACME, given(secrets=(SecretRef(name=name),)))
        with pytest.raises(Failure):
            await deploy(plane, ACME, given(build_secrets=(SecretRef(name=name),)))


async def test_a_reader_of_the_servers_workspace_sees_the_certificates_of_its_own_hosts(server):
    for scope in (MAIN, GLOBEX):
        await deploy(server.plane, scope, function("f"))
    seen = {}
    for permission in (Permission.READ, Permission.ADMIN):
        caller = Caller(by="token", permissions=frozenset({Permission.READ, permission}))
        async with client(Guard(server.api.app(), lambda _scope, known=caller: known)) as http:
            listed = (await http.get("/v1/certificates")).json()["certificates"]
            seen[permission] = [each["host"] for each in listed]

    assert not [host for host in seen[Permission.READ] if host.startswith("globex")]
    assert [host for host in seen[Permission.READ] if host.startswith("me--")]
    assert [host for host in seen[Permission.ADMIN] if host.startswith("globex")]
