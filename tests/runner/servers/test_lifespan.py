"""What an ASGI app's own lifespan says and raises, without a framework that catches it."""

import asyncio

import pytest

from homeport.runner.servers.lifespan import Lifespan, LifespanFailed


async def cancels_itself():
    """Await a task that was cancelled, as an app does whose connection to another service has ended."""
    task = asyncio.create_task(asyncio.sleep(0))
    task.cancel()
    await task


async def raises():
    raise ZeroDivisionError


def app(starts=None, ends=None, said="complete"):
    """Return an app that awaits `starts` after its start was asked for, and `ends` likewise."""

    async def app(_scope, receive, send):
        assert "lifespan.startup" == (await receive())["type"]
        if starts is not None:
            await starts()
        await send({"type": f"lifespan.startup.{said}", "message": "a traceback\nthe reason\n"})
        assert "lifespan.shutdown" == (await receive())["type"]
        if ends is not None:
            await ends()
        await send({"type": f"lifespan.shutdown.{said}", "message": "a traceback\nthe reason\n"})

    return app


CAUSES = [(raises, ZeroDivisionError), (cancels_itself, asyncio.CancelledError)]


@pytest.mark.parametrize(("starts", "cause"), CAUSES)
async def test_an_app_that_raises_while_it_starts_has_failed_and_says_why(starts, cause):
    with pytest.raises(LifespanFailed, match="exited startup") as failed:
        await Lifespan(app(starts)).startup()

    assert isinstance(failed.value.__cause__, cause)


@pytest.mark.parametrize(("ends", "cause"), CAUSES)
async def test_an_app_that_raises_while_it_ends_has_failed_and_says_why(ends, cause):
    lifespan = Lifespan(app(ends=ends))
    await lifespan.startup()
    with pytest.raises(LifespanFailed, match="exited shutdown") as failed:
        await lifespan.shutdown()

    assert isinstance(failed.value.__cause__, cause)


async def test_an_app_that_reports_its_failure_has_failed_with_the_last_line_of_its_message():
    with pytest.raises(LifespanFailed, match=r"^ASGI lifespan startup failed: the reason$"):
        await Lifespan(app(starts=None, said="failed")).startup()


@pytest.mark.parametrize("raised", [AssertionError, asyncio.CancelledError])
async def test_an_app_that_raises_before_it_asks_for_a_message_has_no_lifespan(raised):
    async def plain(_scope, _receive, _send):
        raise raised

    lifespan = Lifespan(plain)
    await lifespan.startup()
    await lifespan.shutdown()

    assert {} == lifespan.state
