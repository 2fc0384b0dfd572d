"""Each noun of the client, with a real API on a real socket: what it asks for comes back as its type says."""

import asyncio
import hashlib
import uuid

import pytest

from homeport.contract import codec, frames
from homeport.contract.api.alerts import NewAlert
from homeport.contract.api.audit import AuditQuery
from homeport.contract.api.captures import MirrorQuery, NewCapture
from homeport.contract.api.deploys import Canary, Deploy, DeployQuery, Rollback
from homeport.contract.api.environments import EnvironmentChange, NewEnvironment, NewWorkspace
from homeport.contract.api.logs import LogQuery
from homeport.contract.api.nodes import NewNodeToken, NodeLogQuery
from homeport.contract.api.rate_limits import NewRateLimit
from homeport.contract.api.requests import LiveQuery, RequestQuery
from homeport.contract.api.secrets import NewSecret
from homeport.contract.api.series import SeriesQuery
from homeport.contract.api.shared import NewObject
from homeport.contract.api.spawned import CallsQuery, CancelQuery
from homeport.contract.api.volumes import Copy, FileQuery, FilesQuery, NewVolume, VolumesQuery
from homeport.contract.captured import Captured, Message
from homeport.contract.errors import BadRequest, NodeLost, NotFound
from homeport.contract.scope import MAIN
from homeport.state.requests import Place
from tests.control.plane import function, manifest
from tests.recorded import words
from tests.test_client import connected
from tests.waiting import until


@pytest.fixture
async def parts(home):
    """A client, its plane and its server, with the app `shop`."""
    async with connected(home) as (client, plane, server):
        wanted = Deploy(manifest=manifest(function("f"), app="shop"))
        assert [event.event async for event in client.deploys.deploy("shop", wanted)]
        yield client, plane, server


async def test_deploys_are_listed_and_each_has_its_progress(parts):
    client, _, _ = parts
    (record,) = await client.deploys.every(DeployQuery(app="shop"))
    *_, done = [event async for event in client.deploys.progress(record.id)]

    assert ("shop", 1) == (record.app, record.version)
    assert 1 == done.deployed.version
    assert () == await client.deploys.every(DeployQuery(app="other"))


async def test_a_canary_is_promoted(parts):
    client, _, _ = parts
    changed = manifest(function("f", timeout_s=9.0), app="shop")
    wanted = Deploy(manifest=changed, canary=Canary(percent=25.0))
    *_, done = [event async for event in client.deploys.deploy("shop", wanted)]
    promoted = await client.deploys.promote("shop")

    assert 25.0 == done.deployed.canary.percent
    assert (2, "promoted") == (promoted.version, promoted.canary.state)


async def test_alerts_are_added_tested_and_removed_by_their_names(parts):
    client, _, _ = parts
    wanted = NewAlert(name="disk", kind="disk", url="https://127.0.0.1:1/hidden")
    added = await client.alerts.add(wanted)

    assert (added.alert,) == await client.alerts.every()
    assert added.secret
    assert not (await client.alerts.test("disk")).delivered
    assert ["isolation"] == [finding.what for finding in await client.alerts.findings()]
    await client.alerts.remove("disk")
    assert () == await client.alerts.every()
    with pytest.raises(NotFound):
        await client.alerts.test("a/../b?c")


async def test_each_change_is_in_the_audit_log(parts):
    client, _, _ = parts
    await client.rate_limits.set(NewRateLimit(app="shop", rate="10/s"))
    entries = await client.audit.entries(AuditQuery(tail=1))

    assert [("rate-limit set", "shop")] == [(entry.action, entry.app) for entry in entries]
    assert () == await client.audit.entries(AuditQuery(app="other"))


async def test_rate_limits_are_set_and_removed(parts):
    client, _, _ = parts
    limit = await client.rate_limits.set(NewRateLimit(app="shop", tag="f", rate="10/s"))

    assert (limit,) == await client.rate_limits.every()
    await client.rate_limits.remove("shop", "f")
    assert () == await client.rate_limits.every()


async def test_a_capture_takes_requests_until_it_is_stopped(parts):
    client, plane, _ = parts
    capture = await client.captures.start(NewCapture(app="shop", requests=2))
    (token,) = (told.partition(".")[0] for told in plane.ingress.captures.values())
    taken = Captured(
        id=str(uuid.uuid4()), method="GET", target="/", request=Message(), status=200, response=Message()
    )  # fmt: skip
    await client.raw("POST", f"/v1/captures/{token}", codec.line(taken))

    listed = await client.captures.every()
    assert ((capture.app, capture.tag, 1),) == tuple(
        (c.app, c.tag, c.taken) for c in listed.running
    )
    assert [taken.id] == [each.id for each in listed.captured]
    assert taken.id == (await client.captures.one(taken.id)).captured.id
    assert 1 == await client.captures.stop("shop", "")
    assert () == (await client.captures.every()).running


async def test_a_mirror_yields_copies_of_requests(parts):
    client, plane, _ = parts
    mirror = client.captures.mirror(MirrorQuery(app="shop"))
    first = asyncio.ensure_future(anext(mirror))
    await until(lambda: plane.ingress.captures, "the mirror")
    (token,) = (told.partition(".")[0] for told in plane.ingress.captures.values())
    taken = Captured(
        id=str(uuid.uuid4()), method="GET", target="/", request=Message(), status=200, response=Message()
    )  # fmt: skip
    await client.raw("POST", f"/v1/captures/{token}", codec.line(taken))

    assert taken.id == (await first).captured.id
    await mirror.aclose()


async def test_certificates_and_domains_are_known_by_their_hosts(parts):
    client, _, _ = parts
    added = await client.domains.add("*.example.test", "shop", "f")

    assert (added,) == await client.domains.every()
    assert "*.example.test" in {each.host for each in await client.certificates.every()}
    assert "a.test" == (await client.certificates.renew("a.test")).host
    await client.domains.remove("*.example.test")
    assert () == await client.domains.every()


async def test_the_dashboard_has_a_link(parts):
    client, _, _ = parts
    link = await client.dashboard.link()

    assert link.url.startswith("http://homeport--dashboard.localhost:")
    assert link.url not in repr(link)


async def test_environments_and_workspaces_are_made_changed_and_deleted(parts):
    client, _, _ = parts
    made = await client.environments.create(NewEnvironment(name="staging"))
    changed = await client.environments.update("staging", EnvironmentChange(web_suffix="st"))
    assert ("staging", "st") == (made.web_suffix, changed.web_suffix)
    assert ["main", "staging"] == [each.name for each in await client.environments.every()]
    assert 0 == await client.environments.delete("staging")
    assert ["main"] == [each.name for each in await client.environments.every()]

    workspace = await client.environments.create_workspace(NewWorkspace(name="acme"))
    assert workspace in await client.environments.workspaces()
    assert 0 == await client.environments.delete_workspace("acme")
    assert workspace not in await client.environments.workspaces()


async def test_a_machine_joins_by_a_token_and_is_labelled_drained_and_removed(parts):
    client, _, server = parts
    token = await client.nodes.token(NewNodeToken(listen="127.0.0.1:0"))
    digest = hashlib.sha256(token.token.rpartition("-")[2].encode()).hexdigest()
    await server.machines.rows.join(digest, "a", "1" * 32)

    assert ["a"] == [node.name for node in await client.nodes.every()]
    assert {"region": "eu"} == (await client.nodes.label("a", {"region": "eu"})).labels
    assert {} == (await client.nodes.label("a", {"region": ""})).labels
    for on in (True, False):
        await client.nodes.drain("a", on=on)
        assert [on] == [node.drained for node in await client.nodes.every()]
    with pytest.raises(NodeLost, match="`a`"):
        [line async for line in client.nodes.logs("a", NodeLogQuery())]
    await client.nodes.remove("a")
    assert () == await client.nodes.every()


async def test_requests_are_listed_shown_and_followed(parts):
    client, _, server = parts

    def record(name):
        server.requests.add(
            [words(id=name, container="ta-1")],
            lambda _endpoint: Place(MAIN, "shop", "f"),
            lambda _container: "",
        )

    record("1b0c")
    (request,) = await client.requests.every(RequestQuery(app="shop"))
    assert request == (await client.requests.one("1b0c")).request
    assert () == await client.requests.every(RequestQuery(app="other"))
    live = client.requests.live(LiveQuery(app="shop", tail=1))
    assert (request,) == (await anext(live)).requests
    await live.aclose()
    series = await client.over_time.series(SeriesQuery(since=1699999000, until=1700001000))
    assert [("shop", "f")] == [(each.app, each.tag) for each in series.endpoints]


@pytest.mark.parametrize("kind", ["dicts", "queues"])
async def test_a_dict_and_a_queue_are_made_changed_and_deleted(parts, kind):
    client, _, _ = parts
    noun = getattr(client, kind)
    made = await noun.create(NewObject(name="x"))
    assert (made.id, made.id) == ((await noun.one("x")).id, (await noun.one(made.id)).id)
    await noun.exchange("POST", "x", "put", frames.pack([b"k", b"v"]))

    assert b"v" in await noun.exchange("GET", "x", "items")
    assert ["x"] == [each.name for each in await noun.every()]
    await noun.delete("x")
    assert () == await noun.every()


async def test_files_of_a_volume_are_written_listed_read_copied_and_removed(parts):
    client, _, _ = parts
    made = await client.volumes.create(NewVolume(name="models"))

    async def content():
        for piece in (b"one ", b"two"):
            yield piece

    async def listed(**wanted):
        files = client.volumes.files("models", FilesQuery(recursive=True, **wanted))
        return [entry.path async for entry in files]

    await client.volumes.write("models", FileQuery(path="a/x y"), content())
    assert ["a", "a/x y"] == await listed()
    pieces = [piece async for piece in client.volumes.read("models", "a/x y")]
    assert b"one two" == b"".join(pieces)
    await client.volumes.copy("models", Copy(sources=("a/x y",), target="b"))
    await client.volumes.commit("models")
    await client.volumes.remove("models", FilesQuery(path="a", recursive=True))
    assert ["b"] == await listed()
    (stored,) = await client.volumes.every(VolumesQuery(sizes=True))
    assert (made.id, 1) == (stored.id, stored.files)

    renamed = await client.volumes.rename("models", "weights")
    assert ("weights", made.id) == (renamed.name, renamed.id)
    assert renamed == await client.volumes.one(made.id)
    await client.volumes.delete("weights")
    assert () == await client.volumes.every(VolumesQuery())


async def test_a_spawned_call_that_is_not_there_is_not_found(parts):
    client, _, _ = parts
    call = "fc-" + "1" * 40

    assert () == await client.spawned.every(CallsQuery(tail=1))
    assert () == await client.spawned.children(call)
    with pytest.raises(NotFound):
        await client.spawned.one(call)
    with pytest.raises(NotFound):
        await client.spawned.cancel(call, CancelQuery())


@pytest.mark.parametrize("name", ["shop?x", "shop#x", "shop/../shop", "a b", "a\r\nX-Evil: 1", "é"])
async def test_a_name_with_other_characters_is_not_the_name_before_them(parts, name):
    """`homeport secret delete "db?x"` deleted the secret `db`."""
    client, _, _ = parts
    await client.secrets.create(NewSecret(name="shop", values={"KEY": "v"}))
    for asked in (
        client.apps.one(name),
        client.apps.stop(name),
        client.apps.history(name),
        client.secrets.delete(name),
        client.containers.stop(name),
        client.deploys.promote(name),
    ):
        with pytest.raises((NotFound, BadRequest)):
            await asked
    with pytest.raises((NotFound, BadRequest)):
        [event async for event in client.deploys.rollback(name, Rollback(version=1))]
    with pytest.raises((NotFound, BadRequest)):
        [line async for line in client.logs.read(name, LogQuery())]

    assert ["shop"] == [secret.name for secret in await client.secrets.every()]
    assert "deployed" == (await client.apps.one("shop")).state
