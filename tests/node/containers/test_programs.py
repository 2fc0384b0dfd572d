"""Programs in containers, where they cannot be started. `tests/journeys/test_programs.py` has those that run."""

import asyncio
import os
import socket
import subprocess
import threading
import types

import pytest

from homeport.contract.errors import StartError
from homeport.node.containers import programs
from tests.waiting import turns


def open_files() -> set[str]:
    """Return the numbers of this process's open files."""
    names = os.listdir("/proc/self/fd")
    return {name for name in names if os.path.lexists(f"/proc/self/fd/{name}")}


@pytest.mark.parametrize(("where", "name", "succeeds"), [(os, "pipe", 1), (subprocess, "Popen", 0)])
def test_a_program_that_cannot_be_started_leaves_no_file_open(monkeypatch, where, name, succeeds):
    """The agent lives for months."""
    usual, calls = getattr(where, name), []

    def fails(*words, **options):
        calls.append(words)
        if len(calls) > succeeds:
            raise OSError("there is no more")
        return usual(*words, **options)

    ours, theirs = socket.socketpair()
    with ours, theirs:
        before = open_files()
        with monkeypatch.context() as patched:
            patched.setattr(where, name, fails)
            with pytest.raises(OSError, match="no more"):
                programs._enter({"terminal": None}, -1, theirs)

        assert before == open_files()


@pytest.mark.parametrize("answer", [b"", b'{"error": "it is full"}\n'])
async def test_a_program_that_does_not_begin_leaves_no_file_open_and_no_process(answer):
    """Without an answer, the user has given up meanwhile."""
    before = open_files()
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(["cat"], stdin=theirs, stdout=subprocess.DEVNULL)
        theirs.sendall(answer)
    pipes = dict(enumerate((*os.pipe(), os.memfd_create("err"))))
    entered = programs.Entered(ours, process)
    starting = asyncio.create_task(entered.start(pipes))
    await turns(2)
    if not answer:
        starting.cancel()
    with pytest.raises((StartError, asyncio.CancelledError)):
        await starting

    assert before == open_files()
    assert process.returncode is not None


@pytest.mark.parametrize("error", [None, OSError(24, "Too many open files")])
async def test_a_user_who_gives_up_while_a_program_is_started_leaves_nothing_behind(
    monkeypatch, error
):
    begun, may_end, processes = threading.Event(), threading.Event(), []

    def enter(_order, _runner, control):
        begun.set()
        may_end.wait()
        if error is not None:
            raise error
        descriptor = control.fileno()
        processes.append(subprocess.Popen(["cat"], stdin=descriptor, stdout=subprocess.DEVNULL))
        return processes[0], dict(enumerate((*os.pipe(), os.memfd_create("err"))))

    monkeypatch.setattr(programs, "_enter", enter)
    before = open_files()
    starting = asyncio.create_task(programs._entered({}, types.SimpleNamespace(pidfd=-1)))
    await asyncio.to_thread(begun.wait)
    starting.cancel()
    await turns(2)
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await starting

    assert before == open_files()
    assert all(process.returncode is not None for process in processes)
