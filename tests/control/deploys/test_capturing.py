"""Captures: what the ingress is told, what containers may send, and when it is over."""

import asyncio
import dataclasses
import json
import uuid

import pytest

from homeport.contract import codec
from homeport.contract.captured import Captured, Message
from homeport.contract.errors import BadRequest, IngressError, NotFound
from homeport.contract.scope import MAIN, Scope
from homeport.control.deploys import capturing
from homeport.control.deploys.capturing import Captor
from homeport.control.fleet.owner import Owner
from homeport.state.captures import Captures
from tests.control.plane import Plane, function, manifest
from tests.waiting import until, virtually

LIMITS = {"for_s": 60.0, "requests": 2, "body_bytes": 100}


def story_of(tmp_path, tell):
    """Tell a story with a deployed app and its captor: `tell(plane, captor)`."""

    async def story():
        async with Plane(tmp_path) as plane:
            captor = capturing.new_captor(plane.parts, plane.deployer)
            await plane.deploy(manifest(function("f"), function("g")))
            captor.open()
            try:
                await tell(plane, captor)
            finally:
                await captor.close()

    virtually(story())


def request(body: bytes = b"", **changes) -> bytes:
    """Return what a container sends."""
    fields = {"id": str(uuid.uuid4()), "method": "GET", "target": "/", "status": 200}
    message = Message(body=body, body_bytes=len(body))
    return codec.line(Captured(**{**fields, "request": message, "response": message, **changes}))


def token_of(plane: Plane) -> str:
    (order,) = plane.ingress.captures.values()
    token, _, most = order.partition(".")
    assert most == "100"
    return token


def test_a_capture_takes_so_many_requests_and_ends(tmp_path):
    async def tell(plane: Plane, captor: Captor):
        underway = await captor.start(MAIN, "shop", "f", **LIMITS)
        token = token_of(plane)
        await captor.take(MAIN, token, request(b"one", app="theirs", tag="other", version=9))
        assert (1, 1) == (underway.taken, underway.left)
        await captor.take(MAIN, token, request(b"two"))

        captures = await captor.every(MAIN)
        assert [("shop", "f", 1, b"one"), ("shop", "f", 1, b"two")] == sorted(
            (c.app, c.tag, c.version, c.request.body) for c in captures
        )
        assert {} == plane.ingress.captures
        with pytest.raises(NotFound):
            await captor.take(MAIN, token, request())

    story_of(tmp_path, tell)


def test_a_capture_ends_at_its_time_and_with_its_endpoint(tmp_path):
    async def tell(plane: Plane, captor: Captor):
        await captor.start(MAIN, "shop", "f", **{**LIMITS, "for_s": 0.01})
        await until(lambda: not plane.ingress.captures, "the end")
        assert [] == captor.running(MAIN)

        await captor.start(MAIN, "shop", "f", **LIMITS)
        await captor.take(MAIN, token_of(plane), request())
        await plane.deployer.stop(Owner.app(MAIN, "shop"))
        assert ([], []) == (captor.running(MAIN), await captor.every(MAIN))

    story_of(tmp_path, tell)


def test_a_redeploy_does_not_end_it_and_another_start_replaces_it(tmp_path):
    async def tell(plane: Plane, captor: Captor):
        await captor.start(MAIN, "shop", "f", **LIMITS)
        before = token_of(plane)
        await plane.deploy(manifest(function("f"), function("g"), script="x = 2"))
        assert before == token_of(plane)
        await captor.start(MAIN, "shop", "f", **LIMITS)

        assert before != token_of(plane)
        with pytest.raises(NotFound):
            await captor.take(MAIN, before, request())
        assert 0 == await captor.stop(MAIN, "shop", "")
        assert {} == plane.ingress.captures

    story_of(tmp_path, tell)


def test_a_container_of_another_environment_or_without_the_token_may_send_nothing(tmp_path):
    async def tell(plane: Plane, captor: Captor):
        await captor.start(MAIN, "shop", "f", **LIMITS)
        token = token_of(plane)
        for scope, wrong in ((Scope("acme", "main"), token), (MAIN, "0" * 32), (MAIN, "")):
            with pytest.raises(NotFound):
                captor.limit(scope, wrong)
            with pytest.raises(NotFound):
                await captor.take(scope, wrong, request())

        assert [] == await captor.every(MAIN)

    story_of(tmp_path, tell)


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"[]",
        b"\xff",
        json.dumps({"id": 5}).encode(),
        request(method=["GET"]),
        request(at=float("inf")),
        request(target=5),
        b"[" * 100_000,
        request(b"x" * 101),
        request(target="/" + "x" * 300_000),
        request(request=Message(fields=(("a", "x" * 300_000),))),
    ],
    ids=range(11),
)
def test_a_capture_that_is_too_large_or_is_none_is_refused(tmp_path, wrong):
    async def tell(plane: Plane, captor: Captor):
        await captor.start(MAIN, "shop", "f", **LIMITS)
        with pytest.raises(BadRequest):
            await captor.take(MAIN, token_of(plane), wrong)

        assert [] == await captor.every(MAIN)

    story_of(tmp_path, tell)


@pytest.mark.parametrize(
    ("app", "tag", "changes", "error"),
    [
        ("nobody", "f", {}, NotFound),
        ("shop", "h", {}, NotFound),
        ("shop", "", {}, BadRequest),  # which of the two?
        ("shop", "f", {"for_s": 0.0}, BadRequest),
        ("shop", "f", {"for_s": 1e9}, BadRequest),
        ("shop", "f", {"requests": 0}, BadRequest),
        ("shop", "f", {"body_bytes": -1}, BadRequest),
        ("shop", "f", {"body_bytes": 10**9}, BadRequest),
    ],
)
def test_a_capture_that_may_not_be_is_refused(tmp_path, app, tag, changes, error):
    async def tell(plane: Plane, captor: Captor):
        with pytest.raises(error):
            await captor.start(MAIN, app, tag, **{**LIMITS, **changes})

        assert {} == plane.ingress.captures

    story_of(tmp_path, tell)


def test_a_container_that_may_not_speak_to_the_server_is_not_captured(tmp_path):
    async def tell(plane: Plane, captor: Captor):
        live = plane.parts.live.get(Owner.app(MAIN, "shop"))
        shut = [
            dataclasses.replace(spec, restrict_modal_access=True)
            for spec in live.revision.manifest.functions
        ]
        changed = dataclasses.replace(live.revision.manifest, functions=tuple(shut))
        live.revision = dataclasses.replace(live.revision, manifest=changed)
        with pytest.raises(BadRequest, match="restrict_modal_access"):
            await captor.start(MAIN, "shop", "f", **LIMITS)

    story_of(tmp_path, tell)


def test_the_functions_secrets_and_the_settings_fields_are_not_kept(tmp_path):
    async def tell(plane: Plane, _captor: Captor):
        captor = Captor(plane.parts, Captures(tmp_path / "captures"), {"x-mine"})
        wanted = manifest(function("f", secret="a-secret"), function("g"), script="x = 4")
        await plane.deploy(wanted)
        await captor.start(MAIN, "shop", "f", **LIMITS)
        message = Message(fields=(("x-mine", "1"), ("x-other", "a-secret")), body=b"a-secret")
        await captor.take(MAIN, token_of(plane), request(request=message))
        (capture,) = await captor.every(MAIN)

        assert (("x-other", "***"),) == capture.request.fields
        assert b"***" == capture.request.body

    story_of(tmp_path, tell)


def test_a_mirror_gives_copies_of_safe_requests_and_stores_none(tmp_path):
    async def tell(plane: Plane, captor: Captor):
        async with captor.mirror(MAIN, "shop", "f", 500) as mirror:
            (order,) = plane.ingress.captures.values()
            token, most, share = order.split(".")
            assert ("65536", "500") == (most, share)
            cookie = Message(fields=(("Cookie", "a=1"),))
            await captor.take(MAIN, token, request(method="POST"))
            await captor.take(MAIN, token, request(request=cookie))
            await captor.take(MAIN, token, request(target="/?api_key=x"))
            await captor.take(MAIN, token, request(target="/mine"))

            assert "/mine" == (await mirror.next()).target
            assert mirror.copies.empty()
            for _ in range(capturing.COPIES + 3):
                await captor.take(MAIN, token, request())
            assert 3 == mirror.lost
        await until(lambda: not plane.ingress.captures, "the end")
        assert [] == await captor.every(MAIN)

    story_of(tmp_path, tell)


def test_a_mirror_ends_with_its_reader_its_endpoint_or_by_a_command(tmp_path):
    async def tell(plane: Plane, captor: Captor):
        async def read():
            async with captor.mirror(MAIN, "shop", "f", 500) as mirror:
                return await mirror.next()

        reading = asyncio.create_task(read())
        await until(lambda: plane.ingress.captures, "the mirror")
        with pytest.raises(BadRequest, match="mirrored already"):
            await captor.start(MAIN, "shop", "f", **LIMITS)
        reading.cancel()
        await until(lambda: not plane.ingress.captures, "the end")

        reading = asyncio.create_task(read())
        await until(lambda: plane.ingress.captures, "the mirror")
        await captor.stop(MAIN, "shop", "f")
        assert await reading is None
        await captor.start(MAIN, "shop", "f", **LIMITS)
        with pytest.raises(BadRequest, match="captured"):
            await read()

    story_of(tmp_path, tell)


def failing_at(plane: Plane, is_broken: list[bool]) -> None:
    """Let the ingress fail to change captures, as long as the list says so."""

    async def fault(call: str, _what: str, _when: str) -> None:
        if call == "capture" and is_broken[0]:
            raise IngressError("HAProxy does not answer")

    plane.ingress.fault = fault


def test_nothing_captured_stays_of_a_stopped_app_if_the_ingress_fails(tmp_path, caplog):
    async def tell(plane: Plane, captor: Captor):
        await captor.start(MAIN, "shop", "f", **LIMITS)
        await captor.take(MAIN, token := token_of(plane), request())
        failing_at(plane, is_broken := [True])
        await plane.deployer.stop(Owner.app(MAIN, "shop"))

        assert [] == await captor.every(MAIN)
        with pytest.raises(NotFound):
            await captor.take(MAIN, token, request())
        tries = len(plane.ingress.calls)
        await until(lambda: len(plane.ingress.calls) >= tries + 3, "more tries")
        assert caplog.text.count("does not end yet") == 1
        is_broken[0] = False
        await until(lambda: not captor.running(MAIN), "the end")

    story_of(tmp_path, tell)


def test_a_capture_that_is_over_takes_nothing_while_the_ingress_fails(tmp_path):
    async def tell(plane: Plane, captor: Captor):
        underway = await captor.start(MAIN, "shop", "f", **LIMITS)
        token = token_of(plane)
        failing_at(plane, is_broken := [True])
        underway.until = 0.0
        with pytest.raises(NotFound):
            await captor.take(MAIN, token, request())

        is_broken[0] = False
        await until(lambda: not plane.ingress.captures, "the end")
        async with captor.mirror(MAIN, "shop", "f", 500):
            is_broken[0], count = True, len(plane.ingress.calls)
        await until(lambda: len(plane.ingress.calls) > count, "the try")
        is_broken[0] = False
        await until(lambda: not plane.ingress.captures, "the end of the mirror")

    story_of(tmp_path, tell)


def test_a_request_that_is_written_while_its_app_is_stopped_is_not_kept(tmp_path):
    async def tell(plane: Plane, captor: Captor):
        loop, add = asyncio.get_running_loop(), captor.kept.add

        def stopped_before(*args, **options) -> bool:
            stop = plane.deployer.stop(Owner.app(MAIN, "shop"))
            asyncio.run_coroutine_threadsafe(stop, loop).result(60)
            return add(*args, **options)

        captor.kept.add = stopped_before
        await captor.start(MAIN, "shop", "f", **LIMITS)
        await captor.take(MAIN, token_of(plane), request())

        assert [] == await captor.every(MAIN)

    story_of(tmp_path, tell)


def test_the_secrets_of_an_earlier_version_whose_containers_run_are_not_kept(tmp_path):
    async def tell(plane: Plane, captor: Captor):
        await plane.deploy(manifest(function("f", secret="an-old-one"), function("g")))
        (endpoint,) = (name for name in plane.ingress.endpoints if name.endswith("shop-f"))
        await plane.visit(endpoint)
        await plane.deploy(manifest(function("f", secret="a-new-one"), function("g")))
        await captor.start(MAIN, "shop", "f", **LIMITS)
        await captor.take(MAIN, token_of(plane), request(b"an-old-one, a-new-one"))
        (capture,) = await captor.every(MAIN)

        assert b"***, ***" == capture.request.body

    story_of(tmp_path, tell)
