"""A server that nobody keeps ends with the command that started it."""

import asyncio
import contextlib
import os
import sys

import pytest

from homeport.control.lifeline import Lifeline
from tests.waiting import virtual


@pytest.fixture
def stdin(monkeypatch):
    """The command's end of the server's standard input."""
    read, write = os.pipe()
    with os.fdopen(read) as reader:
        monkeypatch.setattr(sys, "stdin", reader)
        yield write
    with contextlib.suppress(OSError):
        os.close(write)


async def ends(stop: asyncio.Event, seconds: float = 5.0) -> bool:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
    return stop.is_set()


@virtual
async def test_a_server_ends_with_its_command(stdin):
    stop = asyncio.Event()
    Lifeline(stop, kept=False).watch(asyncio.get_running_loop())
    os.write(stdin, b"whatever\n")
    assert not await ends(stop, 0.1)
    os.close(stdin)

    assert await ends(stop)


@virtual
async def test_a_server_that_is_kept_does_not_end_with_its_command(stdin):
    stop = asyncio.Event()
    lifeline = Lifeline(stop, kept=False)
    lifeline.watch(asyncio.get_running_loop())
    lifeline.keep()
    os.close(stdin)

    assert not await ends(stop, 0.2)


@virtual
async def test_a_server_waits_for_the_sessions_of_other_commands(stdin):
    stop, sessions = asyncio.Event(), ["another"]
    lifeline = Lifeline(stop, kept=False)
    lifeline.busy = lambda: bool(sessions)
    lifeline.watch(asyncio.get_running_loop())
    os.close(stdin)
    assert not await ends(stop, 0.2)
    sessions.clear()

    assert await ends(stop)


@virtual
async def test_a_server_whose_command_has_gone_already_ends_at_once(stdin):
    stop = asyncio.Event()
    os.close(stdin)
    Lifeline(stop, kept=False).watch(asyncio.get_running_loop())

    assert await ends(stop)
