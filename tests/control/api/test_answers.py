"""Each route answers exactly the type that it declares, over HTTP on a real socket."""

import contextlib
import dataclasses
import hashlib
import json
import uuid

import httpx
import pytest

from homeport.contract import codec, frames
from homeport.contract.api.alerts import NewAlert
from homeport.contract.api.answers import Nothing, Refusal
from homeport.contract.api.api_tokens import NewApiToken
from homeport.contract.api.apps import AppState
from homeport.contract.api.blobs import Hashes
from homeport.contract.api.calls import Call
from homeport.contract.api.captures import NewCapture
from homeport.contract.api.deploys import Canary, Deploy, Rollback
from homeport.contract.api.domains import NewDomain
from homeport.contract.api.environments import EnvironmentChange, NewEnvironment, NewWorkspace
from homeport.contract.api.functions import Scaling
from homeport.contract.api.rate_limits import NewRateLimit
from homeport.contract.api.secrets import NewSecret
from homeport.contract.api.sessions import Serve
from homeport.contract.api.shared import NewObject
from homeport.contract.api.tokens import NewProxyToken, Rotation
from homeport.contract.api.volumes import Copy, NewVolume, VolumeName
from homeport.contract.captured import Captured, Message
from homeport.contract.container import Container, LogLine, OpenTunnel, State
from homeport.contract.image import Environment
from homeport.contract.manifest import CallMethod, FunctionSpec
from homeport.contract.permissions import Permission
from homeport.contract.scope import MAIN
from homeport.contract.variants import Options
from homeport.state.coldstarts import ColdStart
from homeport.state.requests import Place
from tests import functions
from tests.control.api import asking_nodes
from tests.control.api.asking import ROUTES, Caller, checked
from tests.control.api.served import api_of, on_a_socket
from tests.control.plane import KEY, Plane, function, manifest
from tests.fakes import FakeNode
from tests.orders import order
from tests.recorded import words
from tests.waiting import until

FILE = b"print('hello')\n"
SHA256 = hashlib.sha256(FILE).hexdigest()
IMAGE = Environment(
    key="k",
    steps=("pip_install flask",),
    python_version="3.12.1",
    size_bytes=1,
    created_at=1.0,
    used_at=2.0,
)


class Node(FakeNode):
    """A node on which an image was built."""

    async def environments(self):
        return [IMAGE]

    async def build_log(self, key):
        return "Collecting flask\n" if key == IMAGE.key else None

    async def prune(self, keep):
        return [IMAGE]


def hosts(plane):
    """Return the hosts that are answered."""
    return [host for endpoint in plane.ingress.endpoints.values() for host in endpoint.hosts]


@contextlib.asynccontextmanager
async def served(home):
    """Serve a plane's API on a socket; yield a caller, the plane and the server."""
    plane = Plane(home, Node(0.01))
    async with plane, on_a_socket(plane, home) as server:
        transport = httpx.AsyncHTTPTransport(uds=str(plane.settings.control_socket))
        async with httpx.AsyncClient(transport=transport, base_url="http://homeport") as http:
            yield Caller(http), plane, server


def add_two(a, b):
    return a + b


async def test_every_route_answers_what_it_declares(tmp_path):
    async with served(tmp_path) as (caller, plane, server):
        ask = caller.ask
        wanted = Deploy(manifest=manifest(function("f", secret="hidden")))

        # files
        hashes = Hashes(hashes=(SHA256,))
        assert (SHA256,) == (await ask("POST /v1/blobs/missing", body=hashes)).missing
        await ask("PUT /v1/blobs/{sha256}", sha256=SHA256, content=FILE)
        assert () == (await ask("POST /v1/blobs/missing", body=hashes)).missing

        # spawned calls; the app has no function, so none can be made
        call = "fc-" + "1" * 40
        refused = await caller.status(
            "POST /v1/spawned", query=f"?id={call}&app=shop&function=f", content=frames.pack([b""])
        )
        assert 404 == refused
        assert () == (await ask("GET /v1/spawned", query="?tail=1")).calls
        assert () == (await ask("GET /v1/spawned/{id}/children", id=call)).calls
        for route in (
            "GET /v1/spawned/{id}",
            "GET /v1/spawned/{id}/outcome",
            "POST /v1/spawned/{id}/cancel",
        ):
            assert 404 == await caller.status(route, id=call)
        heads = [f"call={call}", f"call={call}&kind=value", "kind=other", "place=x"]
        told = frames.pack([part for head in heads for part in (head.encode(), b"")])
        reported = await ask("POST /v1/spawned/reports", content=told)
        assert (409, 404, 400, 400) == reported.statuses
        assert 400 == await caller.status("POST /v1/spawned/reports", content=frames.pack([b"x"]))

        await asking_nodes.ask_all(caller, server)

        # dicts and queues
        pair = frames.pack([b"k", b"v"])
        for kind in ("dicts", "queues"):
            made = await ask(f"POST /v1/{kind}", body=NewObject(name="x"))
            assert [made.id] == [each.id for each in (await ask(f"GET /v1/{kind}")).objects]
            assert made.id == (await ask(f"GET /v1/{kind}/{{name}}", name="x")).id
        dict_, queue = "POST /v1/dicts/{name}/", "POST /v1/queues/{name}/"
        assert 1 == (await ask(f"{dict_}put", name="x", content=pair)).count
        assert 1 == (await ask(f"{dict_}contains", name="x", content=frames.pack([b"k"]))).count
        assert "v" in await ask(f"{dict_}get", name="x", content=frames.pack([b"k"]))
        assert "v" in await ask("GET /v1/dicts/{name}/items", name="x")
        assert "v" in await ask(f"{dict_}pop", name="x", content=frames.pack([b"k"]))
        await ask(f"{dict_}clear", name="x")
        await ask(f"{queue}put", name="x", content=pair)
        assert 2 == (await ask("GET /v1/queues/{name}/length", name="x")).count
        assert "v" in await ask("GET /v1/queues/{name}/items", name="x")
        assert "k" in await ask(f"{queue}get", name="x")
        await ask(f"{queue}clear", name="x")
        for kind in ("dicts", "queues"):
            await ask(f"DELETE /v1/{kind}/{{name}}", name="x")

        # volumes
        row = await ask("POST /v1/volumes", body=NewVolume(name="models"))
        await ask("PUT /v1/volumes/{name}/file", name="models", query="?path=a/x", content=FILE)
        await ask(
            "POST /v1/volumes/{name}/copy",
            name="models",
            body=Copy(sources=("a/x",), target="y"),
        )
        await ask("POST /v1/volumes/{name}/commit", name="models")
        files = await ask("GET /v1/volumes/{name}/files", name=row.id, query="?recursive=1")
        assert ["a", "a/x", "y"] == [entry.path for entry in files]
        assert FILE.decode() == await ask(
            "GET /v1/volumes/{name}/file", name="models", query="?path=y"
        )
        await ask("DELETE /v1/volumes/{name}/file", name="models", query="?path=y")
        (told,) = (await ask("GET /v1/volumes", query="?sizes=1")).volumes
        assert ("models", 1) == (told.name, told.files)
        renamed = await ask(
            "POST /v1/volumes/{name}/rename", name="models", body=VolumeName(name="weights")
        )
        assert renamed == await ask("GET /v1/volumes/{name}", name="weights")
        await ask("DELETE /v1/volumes/{name}", name="weights")

        # a deploy, with its progress
        *progress, done = await ask("POST /v1/apps/{name}/deploy", name="shop", body=wanted)
        assert ["`f` is ready"] == [event.text for event in progress if event.event == "progress"]
        assert ("shop", 1, False) == (
            done.deployed.app,
            done.deployed.version,
            done.deployed.skipped,
        )
        assert ["f"] == [endpoint.tag for endpoint in done.deployed.endpoints]
        (again,) = await ask("POST /v1/apps/{name}/deploy", name="shop", body=wanted)
        assert again.deployed.skipped
        *_, back = await ask("POST /v1/apps/{name}/rollback", name="shop", body=Rollback(version=1))  # fmt: skip
        assert 2 == back.deployed.version

        # a canary, which another deploy of the same code promotes
        later = manifest(function("f", timeout_s=9.0))
        body = Deploy(manifest=later, canary=Canary(percent=25.0))
        *_, done = await ask("POST /v1/apps/{name}/deploy", name="canary", body=dataclasses.replace(wanted, tag=""))  # fmt: skip
        assert done.deployed.canary is None
        *_, done = await ask("POST /v1/apps/{name}/deploy", name="canary", body=body)
        assert (2, 25.0) == (done.deployed.version, done.deployed.canary.percent)
        told = await ask("GET /v1/apps/{name}", name="canary")
        assert (1, done.deployed.canary) == (told.version, told.canary)
        promoted = await ask("POST /v1/apps/{name}/promote", name="canary")
        assert (2, "promoted") == (promoted.version, promoted.canary.state)
        states = (await ask("GET /v1/apps/{name}/history", name="canary")).revisions
        assert ["promoted", None] == [each.canary for each in states]
        tries = (await ask("GET /v1/deploys", query="?app=canary")).deploys
        assert ["promote", "canary", "deploy"] == [each.kind for each in tries]
        await ask("POST /v1/apps/{name}/stop", name="canary")

        # what runs
        status = await ask("GET /v1/status")
        assert str(tmp_path) == status.home
        assert status.apps == (await ask("GET /v1/apps")).apps
        assert status.apps[0] == await ask("GET /v1/apps/{name}", name="shop")
        assert AppState.DEPLOYED is status.apps[0].state
        history = (await ask("GET /v1/apps/{name}/history", name="shop")).revisions
        assert [(2, True), (1, False)] == [(each.version, each.current) for each in history]
        assert all("-v" in each.urls["f"] for each in history)
        tries = (await ask("GET /v1/deploys", query="?app=shop")).deploys
        assert ["rollback", "deploy", "deploy"] == [each.kind for each in tries]
        assert ["ok", "skipped", "ok"] == [each.result for each in tries]
        *_, done = await ask("GET /v1/deploys/{id}/progress", id=f"{tries[0].id}")
        assert 2 == done.deployed.version
        changes = await ask("GET /v1/apps/{name}/changes", name="shop")
        assert (1, 2, (), ()) == (changes.before, changes.after, changes.files, changes.settings)
        containers = (await ask("GET /v1/containers")).containers
        assert {"shop"} == {container.app for container in containers}
        assert (IMAGE,) == (await ask("GET /v1/images")).images
        assert (IMAGE,) == (await ask("POST /v1/images/prune")).images
        built = await ask("GET /v1/images/{key}/log", key=IMAGE.key)
        assert ("k", "Collecting flask\n") == (built.key, built.text)
        assert 'homeport_cold_starts_total{app="shop",function="f"} 1' in await ask("GET /metrics")

        # a function
        of_f = {"app": "shop", "tag": "f"}
        found = await ask("GET /v1/functions/{app}/{tag}", **of_f)
        assert ("f", 0, 0, None) == (
            found.tag,
            found.backlog,
            found.running,
            found.scaling.max_containers,
        )
        scaled = await ask(
            "POST /v1/functions/{app}/{tag}/scaling",
            body=Scaling(max_containers=3, scaledown_window=700.0),
            **of_f,
        )
        assert (3, 700.0) == (scaled.scaling.max_containers, scaled.scaling.scaledown_window)
        called = FunctionSpec(
            name="g", module="m", qualname="g", calls=(CallMethod(tag="g", attribute="g"),)
        )
        await ask(
            "POST /v1/apps/{name}/deploy",
            name="calls",
            body=Deploy(manifest=manifest(called, app="calls")),
        )
        varied = Options(cpu=(1.0, None))
        made = await ask(
            "POST /v1/functions/{app}/{tag}/variants", body=varied, app="calls", tag="g"
        )
        assert f"g+{varied.digest[:8]}" == made.function
        await ask("POST /v1/apps/{name}/stop", name="calls")

        # a call
        plane.settings.calls_socket.parent.mkdir(parents=True, exist_ok=True)
        with functions.served(plane.settings.calls_socket, KEY) as served_functions:
            served_functions.add(add_two)
            told = await ask(
                "POST /v1/apps/{name}/call/{tag}",
                name=functions.APP,
                tag="add_two",
                body=Call(args=(1,), kwargs={"b": 2}),
            )
        assert 3 == told.value

        # what was printed, and how it began
        line = LogLine(at=2.0, app="shop", function="f", container="ta-1", text="caf\u00e9\u2028")
        server.logs.write(line)
        server.logs.write(LogLine(at=3.0, app="shop", function="g", container="", text="other"))
        log = "GET /v1/apps/{name}/logs"
        assert [line] == await ask(log, name="shop", query="?function=f&since=1.5")
        assert [] == await ask(log, name="shop", query="?function=f&since=2.5")
        async with caller.follow(log, name="shop", query="?follow=1&tail=1&function=f") as lines:
            assert line == await anext(lines)
            server.logs.write(dataclasses.replace(line, app="another"))
            server.logs.write(dataclasses.replace(line, function="g"))
            server.logs.write(line)
            assert line == await anext(lines)
        server.cold_starts.add(
            ColdStart(
                at=1.0,
                app="shop",
                function="f",
                container="ta-1",
                revision="rv-1",
                origin="forked",
                timings_ms={"forked": 1.25, "imported": 2.0},
            )
        )
        starts = await ask("GET /v1/apps/{name}/cold-starts", name="shop", query="?tail=1")
        assert [3.2] == [start.total_ms for start in starts.cold_starts]
        server.requests.add(
            [words(id="1b0c", container="ta-1", parked="5")],
            lambda _endpoint: Place(MAIN, "shop", "f"),
            lambda _container: "",
        )
        (request,) = (await ask("GET /v1/requests", query="?app=shop")).requests
        detail = await ask("GET /v1/requests/{id}", id="1b0c")
        assert (request, "ta-1") == (detail.request, detail.start.container)
        live = "GET /v1/requests/live"
        async with caller.follow(live, query="?app=shop&tail=1") as lines:
            assert (request,) == (await anext(lines)).requests
        series = await ask("GET /v1/series", query="?since=1699999000&until=1700001000")
        (counted,) = series.endpoints
        assert ("shop", "f", 1) == (counted.app, counted.tag, sum(counted.by_status["2xx"]))

        # secrets and tokens
        secret = NewSecret(name="db", values={"PASSWORD": "hidden"})
        assert ("PASSWORD",) == (await ask("POST /v1/secrets", body=secret)).keys
        assert ["db"] == [each.name for each in (await ask("GET /v1/secrets")).secrets]
        await ask("DELETE /v1/secrets/{name}", name="db")
        assert () == (await ask("GET /v1/secrets")).secrets
        token = await ask("POST /v1/proxy-tokens", body=NewProxyToken(name="ci"))
        assert [(token.token_id, "ci")] == [
            (each.token_id, each.name) for each in (await ask("GET /v1/proxy-tokens")).tokens
        ]
        rotation = Rotation(overlap_s=60.0)
        rotated = await ask("POST /v1/proxy-tokens/{id}/rotate", id=token.token_id, body=rotation)
        assert token.token_id == rotated.token_id
        assert token.secret != rotated.secret
        await ask("DELETE /v1/proxy-tokens/{id}", id=token.token_id)
        assert () == (await ask("GET /v1/proxy-tokens")).tokens

        limited = await ask("POST /v1/rate-limits", body=NewRateLimit(app="shop", rate="10/s"))
        assert (limited,) == (await ask("GET /v1/rate-limits")).limits
        await ask("DELETE /v1/rate-limits/{app}/{tag}", app="shop", tag=limited.tag)

        # captures
        capture = await ask("POST /v1/captures", body=NewCapture(app="shop", requests=2))
        assert (capture,) == (await ask("GET /v1/captures")).running
        (told,) = plane.ingress.captures.values()
        taken = Captured(
            id=str(uuid.uuid4()),
            method="GET",
            target="/",
            request=Message(),
            status=200,
            response=Message(),
        )
        await ask(
            "POST /v1/captures/{token}", content=codec.line(taken), token=told.partition(".")[0]
        )
        assert taken.id == (await ask("GET /v1/captures")).captured[0].id
        assert taken.id == (await ask("GET /v1/captures/{id}", id=taken.id)).captured.id
        stopped = await ask("DELETE /v1/captures/{app}/{tag}", app="shop", tag="-")
        assert 1 == stopped.taken
        async with caller.follow("GET /v1/captures/mirror", query="?app=shop") as lines:
            await until(lambda: plane.ingress.captures, "the mirror")
            (told,) = plane.ingress.captures.values()
            token = told.partition(".")[0]
            await ask("POST /v1/captures/{token}", content=codec.line(taken), token=token)
            copied = await anext(lines)
        assert (taken.id, 0) == (copied.captured.id, copied.lost)

        # tokens of the API
        assert "socket" == (await ask("GET /v1/identity")).by
        wanted = NewApiToken(name="ci", user="ada", scopes=(Permission.DEPLOY,), expires_s=60.0)
        made = await ask("POST /v1/tokens", body=wanted)
        assert made.secret.startswith(f"{made.token.id}.as-")
        assert (made.token,) == (await ask("GET /v1/tokens")).tokens
        await ask("DELETE /v1/tokens/{id}", id=made.token.id)
        made = await ask("POST /v1/tokens", body=wanted)
        assert (made.token.id,) == (await ask("DELETE /v1/users/{user}", user="ada")).ids

        assert "user delete" == (await ask("GET /v1/audit")).entries[-1].action

        # the dashboard
        link = await ask("POST /v1/dashboard")
        assert link.url.startswith("http://homeport--dashboard.localhost:")
        assert 404 == await caller.status("DELETE /v1/dashboard/session")
        given = b'{"code": "x"}'
        assert 404 == await caller.status("POST /v1/dashboard/session", content=given)

        # alerts
        (finding,) = (await ask("GET /v1/findings")).findings
        assert ("isolation", False) == (finding.what, finding.needed)
        wanted = NewAlert(name="disk", kind="disk", url="https://127.0.0.1:1/hidden")
        added = await ask("POST /v1/alerts", body=wanted)
        assert ("https://127.0.0.1:1/…", 90.0) == (added.alert.target, added.alert.limit)
        assert (added.alert,) == (await ask("GET /v1/alerts")).alerts
        assert not (await ask("POST /v1/alerts/{name}/test", name="disk")).delivered
        await ask("DELETE /v1/alerts/{name}", name="disk")

        # certificates and domains
        assert "a.test" == (await ask("POST /v1/certificates/{host}/renew", host="a.test")).host
        listed = (await ask("GET /v1/certificates")).certificates
        assert {"a.test", *hosts(plane)} == {each.host for each in listed}
        added = await ask("POST /v1/domains", body=NewDomain(domain="a.example.test", app="shop"))
        assert (added,) == (await ask("GET /v1/domains")).domains
        await ask("DELETE /v1/domains/{domain}", domain="a.example.test")

        # environments and workspaces
        assert KEY == (await ask("GET /v1/environment")).key
        made = await ask("POST /v1/environments", body=NewEnvironment(name="staging"))
        assert "staging" == made.web_suffix
        wanted = EnvironmentChange(web_suffix="st")
        changed = await ask("POST /v1/environments/{name}", name="staging", body=wanted)
        main, told = (await ask("GET /v1/environments")).environments
        assert ("main", changed) == (main.name, told)
        assert 0 == (await ask("DELETE /v1/environments/{name}", name="staging")).containers
        made = await ask("POST /v1/workspaces", body=NewWorkspace(name="acme"))
        assert made == (await ask("GET /v1/workspaces")).workspaces[0]
        assert 0 == (await ask("DELETE /v1/workspaces/{name}", name="acme")).containers

        # a tunnel
        tunnel = OpenTunnel(name="0" * 20, port=8000, address="unix:/tunnel")
        running = Container(order=order(), state=State.READY, tunnels=(tunnel,))
        server.tunnels.changed(running)
        told = await ask("GET /v1/tunnels/{name}", name=tunnel.name)
        assert ("http", 80) == (told.scheme, told.port)
        await ask("DELETE /v1/tunnels/{name}", name=tunnel.name)

        # a session
        serve = Serve(manifest=manifest(function("f"), app="draft"))
        async with caller.follow("POST /v1/serve", body=serve) as events:
            session, serving = await anext(events), await anext(events)
            assert ("session", "serving") == (session.event, serving.event)
            reload = "PUT /v1/serve/{id}"
            changed = Serve(manifest=manifest(function("f", timeout_s=7.0), app="draft"))
            reloaded = await ask(reload, id=session.id, body=changed)
            assert [e.url for e in serving.endpoints] == [e.url for e in reloaded.endpoints]

        # the end
        stop = "POST /v1/containers/{id}/stop"
        assert Nothing() == await ask(stop, id=containers[0].id)
        stopped = await ask("POST /v1/apps/{name}/stop", name="shop")
        assert stopped.containers <= 1  # the one before may have ended already
        assert Nothing() == await ask("POST /v1/keep")
        assert Nothing() == await ask("POST /v1/shutdown")
        assert ["keep", "shutdown"] == server.asked

        # What `POST /v1/calls` answers is the container's own: see test_passing.py.
        assert {*ROUTES} - {"POST /v1/calls"} == caller.asked
        assert "hidden" not in json.dumps(plane.said, default=str)


async def test_no_route_answers_without_a_guard(tmp_path):
    async with Plane(tmp_path, Node(0.01)) as plane, api_of(plane, tmp_path) as server:
        transport = httpx.ASGITransport(server.api.app())
        async with httpx.AsyncClient(transport=transport, base_url="http://homeport") as http:
            for route in ROUTES:
                method, path = route.split(" ")
                answer = await http.request(method, path)

                assert (route, 401) == (route, answer.status_code)
        assert [] == server.asked


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "kind"),
    [
        ("GET", "/v1/apps/none", b"", 404, "NotFound"),
        ("GET", "/v1/apps/none/logs", b"", 404, "NotFound"),
        ("GET", "/v1/nothing", b"", 404, "NotFound"),
        ("DELETE", "/v1/status", b"", 405, "NotFound"),
        ("POST", "/v1/secrets", b"[]", 400, "BadRequest"),
        ("GET", "/v1/apps/none/logs?tail=0", b"", 400, "BadRequest"),
        ("PUT", "/v1/serve/none", codec.dumps(Serve(manifest=manifest(function("f")))), 404, "NotFound"),
    ],
)  # fmt: skip
async def test_a_refusal_has_its_type_too(tmp_path, method, path, content, status, kind):
    async with served(tmp_path) as (caller, _plane, _server):
        response = await caller._http.request(method, path, content=content)

        refusal = checked((Refusal,), response.json())
        assert (status, kind) == (response.status_code, refusal.error.kind)
        assert refusal.error.message


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{}", "`body.name` is missing"),
        (b'{"name": "db", "values": {"KEY": 5150}}', "`body.values.KEY` must be str"),
        (b'{"name": "db", "values": {"KEY": "5150\\u0000"}}', "`KEY` holds a NUL"),
        (b'{"name": "db", "values": {"KEY": "5150\\ud800"}}', "`KEY` holds a NUL or half"),
        (b'{"name": "db", "values": "5150"}', "an object is needed, not str"),
        (b'{"name": "db", "values": {"KEY": "v"}, "force": "5150"}', "`body.force` must be bool"),
    ],
)
async def test_a_refused_secret_is_not_quoted(tmp_path, body, message):
    async with served(tmp_path) as (caller, plane, _server):
        response = await caller._http.post("/v1/secrets", content=body)

        told = response.json()["error"]["message"]
        assert (400, True) == (response.status_code, message in told), told
        assert "force" in message or "5150" not in response.text
        assert [] == await plane.secret_box.list()


async def test_a_stream_that_fails_says_so_in_its_last_line(tmp_path):
    async with served(tmp_path) as (caller, plane, _server):
        body = Deploy(manifest=manifest(function("f")), strategy="odd")
        (error,) = await caller.ask("POST /v1/apps/{name}/deploy", name="shop", body=body)

        assert ("error", "BadRequest") == (error.event, error.error.kind)
        await plane.check_whole()
