"""Programs in containers: their start, and what they write. `tests/journeys/test_programs.py` has the rest."""

import asyncio
import contextlib
import os
import socket
import subprocess
import threading
import types

import pytest

from homeport.contract.errors import StartError
from homeport.contract.programs import ERR, OUT
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


@pytest.fixture
async def running():
    """Return a program with pipes, as if it ran: its ends of these and of the socket, and the socket."""
    opened = contextlib.ExitStack()

    async def running():
        ours, theirs = socket.socketpair()
        opened.enter_context(theirs)
        process = subprocess.Popen(["cat"], stdin=theirs, stdout=subprocess.DEVNULL)
        (stdin, into), (out, stdout), (err, stderr) = (os.pipe() for _ in range(3))
        for descriptor in (stdin, stdout, stderr):
            opened.callback(os.close, descriptor)
        entered = programs.Entered(ours, process)
        theirs.sendall(b'{"started": true}\n')
        await entered.start({0: into, 1: out, 2: err})
        return entered, (stdin, stdout, stderr, theirs.fileno()), theirs

    with opened:
        yield running


async def all_of(entered: programs.Entered) -> dict[int, bytes]:
    """Return everything that a program writes, by its stream."""
    written = {OUT: b"", ERR: b""}
    while (piece := await entered.read())[1]:
        written[piece[0]] += piece[1]
    return written


async def test_all_that_a_program_wrote_before_its_end_arrives_at_a_slow_reader(running):
    entered, (_, stdout, stderr, _), theirs = await running()
    pieces = [bytes([ord("a") + number]) * 10_000 for number in range(8)]
    for piece in pieces:  # more than waits for a reader
        os.write(stdout, piece)
        await turns(3)
    os.write(stderr, b"an error")
    theirs.sendall(b'{"code": 3}\n')
    await turns(5)
    written = await all_of(entered)
    code = await entered.ended()
    await entered.close()

    assert {OUT: b"".join(pieces), ERR: b"an error"} == written
    assert 3 == code


async def test_a_program_ends_although_a_process_that_it_left_behind_writes_without_a_pause(
    running,
):
    entered, (_, stdout, *_), theirs = await running()
    over = threading.Event()

    def write():
        with contextlib.suppress(BrokenPipeError):
            while not over.is_set():
                with contextlib.suppress(BlockingIOError):
                    os.write(stdout, b"y" * 65536)

    os.set_blocking(stdout, False)
    writing = asyncio.create_task(asyncio.to_thread(write))
    try:
        assert (await entered.read())[1]
        theirs.sendall(b'{"code": 0}\n')
        async with asyncio.timeout(60):
            await all_of(entered)
        assert 0 == await entered.ended()
        await entered.close()
    finally:
        over.set()
        await writing


async def test_a_program_whose_user_has_left_and_that_does_not_end_leaves_no_file_open(
    running, monkeypatch
):
    monkeypatch.setattr(programs, "HANG_UP_S", 0)
    before = open_files()
    entered, ends, _ = await running()
    os.write(ends[1], b"text that nobody reads")
    await turns(3)
    await entered.close()

    assert before | {str(end) for end in ends} == open_files()
