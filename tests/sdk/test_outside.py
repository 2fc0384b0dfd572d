"""The loop of the server's API: Ctrl-C in a script ends what the script waits for."""

import asyncio
import signal
import threading

import pytest

from homeport.sdk import outside


@pytest.fixture
def waiting(home, monkeypatch):
    """Work that Ctrl-C meets while it waits; `ended` is set when it has ended."""
    monkeypatch.setenv("HOMEPORT_HOME", str(home))
    ended, script = threading.Event(), threading.get_ident()

    async def work(_client) -> None:
        try:
            signal.pthread_kill(script, signal.SIGINT)
            await asyncio.Event().wait()
        finally:
            ended.set()

    return work, ended


def test_ctrl_c_ends_a_request_that_a_script_waits_for(waiting):
    work, ended = waiting
    with pytest.raises(KeyboardInterrupt):
        outside.ask(work)

    assert ended.wait(60)


def test_ctrl_c_ends_a_stream_that_a_script_waits_for(waiting):
    work, ended = waiting

    async def items(client):
        yield 1
        await work(client)

    with pytest.raises(KeyboardInterrupt):
        list(outside.stream(items))

    assert ended.is_set()
