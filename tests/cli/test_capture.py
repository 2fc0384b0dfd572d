"""`homeport capture …` as a user types it."""

import time

import pytest

from homeport.cli import output
from homeport.contract.api.captures import Capture, CapturedInfo, CapturedRequest, CaptureList
from homeport.contract.captured import Captured, Message
from tests.control.plane import function, manifest


async def test_a_capture_is_started_listed_and_stopped(typed):
    async with typed() as user:
        await user.plane.deploy(manifest(function("web")))
        none = await user.run("capture", "list")
        options = ["--for", "2h", "--requests", "3", "--max-body", "2KiB"]
        started = await user.run("capture", "start", "shop", *options)
        (order,) = user.plane.ingress.captures.values()
        running = await user.run("capture", "list")
        stopped = await user.run("capture", "stop", "shop.web")
        left = user.plane.ingress.captures
        again = await user.refused("capture", "stop", "shop.web")
        unknown = await user.refused("capture", "show", "none")

    assert "no request was captured in the last day" in none.stderr
    assert "✓ `shop.web` is captured until 2" in started.stderr
    assert "3 requests at most" in started.stderr
    assert ".2048" in order
    assert "`shop.web` is captured: 0 requests so far, 3 more or 7" in running.stderr
    assert "✓ `shop.web` is captured no more; 0 requests captured" in stopped.stderr
    assert {} == left
    assert "shop" in again
    assert "none" in unknown


@pytest.mark.parametrize("words", [["--max-body", "64"], ["--for", "soon"]])
async def test_a_size_and_a_time_have_a_unit(typed, words):
    async with typed() as user:
        assert f"{words[1]}" in await user.refused("capture", "start", "shop", *words)


async def test_captured_requests_are_listed_with_what_is_captured_now(answered):
    one = CapturedInfo(
        id="r-1", at=1.0, app="shop", tag="web", version=2, method="GET", target="/a?b",
        status=200, took_ms=12,
    )  # fmt: skip
    old = CapturedInfo(
        id="r-2", at=1.0, app="shop", tag="web", version=0, method="GET", target="/a",
        status=500, took_ms=2000,
    )  # fmt: skip
    common = {"app": "shop", "tag": "web", "body_bytes": 0}
    past = Capture(**common, until=time.time() - 5, taken=1, left=2)
    mirror = Capture(**common, until=0.0, taken=0, left=0, share=500)
    told = CaptureList(running=(past, mirror), captured=(one, old))
    async with answered({"GET /v1/captures": told}) as user:
        listed = await user.run("capture", "list")

    assert "`shop.web` is captured: 1 request so far, 2 more or 0 s" in listed.stderr
    assert "`shop.web` is mirrored by a `homeport serve`" in listed.stderr
    when = output.local_time(1.0)
    assert [
        f"{when} shop.web v2 GET /a?b 200 12 ms r-1".split(),
        f"{when} shop.web GET /a 500 2.0 s r-2".split(),
    ] == [line.split() for line in listed.stdout.splitlines()[1:]]


async def test_a_captured_request_is_shown_as_text_that_no_terminal_obeys(answered):
    captured = Captured(
        id="r-1",
        method="POST",
        target="/buy",
        request=Message(fields=(("Host", "a"), ("X", "\x1b[2J")), body=b"one\ntwo", body_bytes=7),
        status=201,
        response=Message(fields=(), body=b"\xff\x00", cut=True, body_bytes=4096),
        removed=("authorization", "cookie"),
    )
    told = CapturedRequest(captured=captured, url="", local_url="")
    async with answered({"GET /v1/captures/r-1": told}) as user:
        shown = (await user.run("capture", "show", "r-1")).stdout

    lines = shown.splitlines()
    assert ["POST /buy", "Host: a"] == lines[:2]
    assert "\x1b" not in shown
    assert ["", "one", "two", "", "201 Created", "", "(2 B that are not text)", ""] == lines[3:11]
    assert ["… of 4.0 KiB", "removed: authorization, cookie"] == lines[11:]
