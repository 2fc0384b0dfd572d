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


@pytest.mark.parametrize("has_begun", [True, False])
def test_ctrl_c_before_a_script_waits_ends_the_request_too(home, monkeypatch, has_begun):
    monkeypatch.setenv("HOMEPORT_HOME", str(home))
    begun, ended, over = threading.Event(), threading.Event(), threading.Event()
    submit = asyncio.run_coroutine_threadsafe

    async def work(_client) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    def submitted(coroutine, loop):
        if not has_begun:
            loop.call_soon_threadsafe(over.wait)
        submit(coroutine, loop)
        if has_begun:
            begun.wait()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(asyncio, "run_coroutine_threadsafe", submitted)
        with pytest.raises(KeyboardInterrupt):
            outside.ask(work)
    over.set()
    submit(asyncio.sleep(0), outside.loop()).result()  # the loop has done what came before

    assert has_begun == begun.is_set()
    assert not has_begun or ended.wait(60)
