"""One container's processes: starts them, reads their events, sends signals, waits for their end."""

import asyncio
import collections
import contextlib
import dataclasses
import json
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from homeport.contract import codec
from homeport.contract.container import MAX_TUNNELS, Descriptors, Event, Launch, sent
from homeport.contract.sizes import MIB
from homeport.node import received
from homeport.node.containers import words
from homeport.node.containers.pulses import usage
from homeport.node.held import Held

READ_BYTES = 64 * 1024
MAX_LAST = 4 * MIB  # bytes that are read after the process has ended
WORDS_PER_S = 20_000
KILL_S = 10.0  # init gives up after half of that
LOOK_S = 0.1  # between two checks meanwhile
CODE_S = 1.0  # how long to wait for the exit code from a zygote


class Born(Protocol):
    """The processes that a zygote has forked: see node/zygotes/zygote.py."""

    @property
    def init(self) -> Held: ...
    @property
    def runner(self) -> Held: ...
    @property
    def code(self) -> "asyncio.Future[int | None]": ...
    @property
    def origin(self) -> str: ...
    @property
    def snapshot(self) -> Event | None: ...
    @property
    def storage(self) -> str: ...


Fork = Callable[[Descriptors], Awaitable[Born]]


class Process:
    """A container's processes: init, the runner, and their children."""

    def __init__(
        self,
        launch: Launch,
        on_event: Callable[[Event], None],
        spoilt: Callable[[str], None] = lambda _why: None,
    ) -> None:
        self._launch = launch
        self._said = on_event
        # Called with a reason if the report has something that no runner sends.
        self._spoilt = spoilt
        self._words = 0  # events in this second
        self._second = 0
        self._popen: subprocess.Popen[bytes] | None = None
        self._code: asyncio.Future[int | None] | None = None  # the exit code of a forked container
        self._init: Held | None = None
        self._runner: Held | None = None
        self._report: socket.socket | None = None
        self._way: socket.socket | None = None  # init sends the runner's pidfd here
        self._rest = bytearray()
        self._passed: collections.deque[int] = collections.deque()  # descriptors, with its report
        self._has_runner = asyncio.Event()  # set when the runner is known, or known to be missing
        self._ended = asyncio.Event()

    @property
    def pid(self) -> int:
        """The runner's process id; 0 before it is known."""
        return self._runner.pid if self._runner else 0

    @property
    def runner(self) -> Held | None:
        """The process that runs the user's code; None before it is known."""
        return self._runner

    @property
    def leader(self) -> int:
        """The process id of init, which leads the container's session; 0 before it runs."""
        return self._init.pid if self._init else 0

    def start(
        self, argv: Sequence[str], environ: dict[str, str], cwd: Path, descriptors: Descriptors
    ) -> None:
        """Start init in a session of its own, with the container's descriptors; init starts the runner."""
        ours, theirs = socket.socketpair()
        way, inits = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, inits:
            descriptors = dataclasses.replace(descriptors, report=theirs.fileno())
            try:
                self._popen = subprocess.Popen(
                    list(argv),
                    stdin=subprocess.PIPE,
                    stdout=descriptors.output,
                    stderr=descriptors.output,
                    env={
                        **environ,
                        **descriptors.environ(),
                        "HOMEPORT_INIT_FD": str(inits.fileno()),
                    },
                    cwd=cwd,
                    pass_fds=(*descriptors.in_order()[1:], inits.fileno()),
                    start_new_session=True,
                )
            except BaseException:
                ours.close()
                way.close()
                raise
        self._watch(Held(self._popen.pid, os.pidfd_open(self._popen.pid)))
        self._listen(ours)
        way.setblocking(False)
        self._way = way
        asyncio.get_running_loop().add_reader(way.fileno(), self._meet)
        assert self._popen.stdin is not None
        with contextlib.suppress(BrokenPipeError), self._popen.stdin as stdin:
            stdin.write(codec.dumps(sent(self._launch)).encode() + b"\n")

    async def fork(self, fork: Fork, descriptors: Descriptors) -> Born:
        """Let a zygote fork the processes; raises the zygotes' errors."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                forked = await fork(dataclasses.replace(descriptors, report=theirs.fileno()))
            except BaseException:
                ours.close()
                raise
        self._code = forked.code
        self._runner = forked.runner
        self._has_runner.set()
        self._listen(ours)
        self._watch(forked.init)
        return forked

    def adopt(self, leader: int, pid: int) -> None:
        """Watch processes that an earlier server started; `OSError` if they have ended."""
        self._watch(Held(leader, os.pidfd_open(leader)))
        self._runner = Held.of(os.pidfd_open(pid), parent=leader)

    async def runner_known(self) -> None:
        """Wait until init has sent the runner's pidfd."""
        await self._has_runner.wait()

    async def ended(self) -> int | None:
        """Wait until all processes have ended; return the runner's exit code, negative for a signal.

        None if the process is not a child of this server or of its zygotes.
        """
        await self._ended.wait()
        if self._code is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CODE_S):
                    return await asyncio.shield(self._code)
        return self._popen.wait() if self._popen else None

    async def killed(self) -> None:
        """Kill the runner, after which init ends the other processes; return when init has ended.

        An init that is stopped, or takes too long, is killed too; the caller ends processes that it leaves.
        """
        self.signal(signal.SIGKILL)
        self.wake()
        deadline = time.monotonic() + KILL_S
        while not self._ended.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._ended.wait()
            if usage(self.leader).stopped or time.monotonic() >= deadline:
                assert self._init is not None
                self._init.signal(signal.SIGKILL)
                await self._ended.wait()

    def wake(self) -> None:
        """Continue init if it was stopped, because a stopped init notices nothing."""
        if self._init is not None:
            self._init.signal(signal.SIGCONT)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the runner only; the runner decides what its children get."""
        if (held := self._runner or self._init) is not None:
            held.signal(number)

    def tell(self, message: Mapping[str, object]) -> None:
        """Send one line to the runner; drop it if the runner does not read."""
        if self._report is not None:
            with contextlib.suppress(OSError):
                self._report.send(json.dumps(message).encode() + b"\n")

    def passed(self) -> int | None:
        """Return the oldest descriptor that came with the report and was not returned yet."""
        return self._passed.popleft() if self._passed else None

    def close(self) -> None:
        """Close the descriptors."""
        left_bytes = MAX_LAST
        while self._report is not None and left_bytes > 0 and self._has_word():
            self._read()
            left_bytes -= READ_BYTES
        self._deafen(is_read=False)
        self._met()
        for held in (self._init, self._runner):
            if held is not None:
                held.close()

    def _has_word(self) -> bool:
        return bool(self._report and select.select([self._report], [], [], 0)[0])

    def _listen(self, report: socket.socket) -> None:
        self._report = report
        report.setblocking(False)
        asyncio.get_running_loop().add_reader(report.fileno(), self._read)

    def _deafen(self, *, is_read: bool) -> None:
        """Read no more events; `is_read` says that none is left in the socket, with descriptors of the container."""
        if self._report is not None:
            asyncio.get_running_loop().remove_reader(self._report.fileno())
            if is_read:
                self._report.close()
            else:
                self._passed.append(self._report.detach())
            self._report = None
        received.close(self._passed)
        self._passed.clear()

    def _meet(self) -> None:
        """Receive the runner's pidfd from init."""
        assert self._way is not None
        with contextlib.suppress(OSError):
            if handles := socket.recv_fds(self._way, 1, 1)[1]:
                self._runner = Held.of(handles[0], parent=self.leader)
        self._met()

    def _met(self) -> None:
        if self._way is not None:
            asyncio.get_running_loop().remove_reader(self._way.fileno())
            self._way.close()
            self._way = None
        self._has_runner.set()

    def _watch(self, init: Held) -> None:
        self._init = init
        loop = asyncio.get_running_loop()
        loop.add_reader(init.pidfd, self._gone, loop)

    def _gone(self, loop: asyncio.AbstractEventLoop) -> None:
        assert self._init is not None
        loop.remove_reader(self._init.pidfd)
        self._ended.set()

    def _read(self) -> None:
        """Read some events; the loop calls again while there are more."""
        if self._report is None:
            return
        try:
            data, descriptors, _, _ = socket.recv_fds(self._report, READ_BYTES, MAX_TUNNELS)
        except BlockingIOError:
            return
        except OSError:  # it was closed with unread data
            data, descriptors = b"", []
        self._passed.extend(descriptors)
        if not data:
            self._deafen(is_read=True)
            return
        lines: list[bytes] = []
        self._rest += data  # without a copy: a container may send a line of a MiB byte by byte
        if b"\n" in data:
            *lines, incomplete = bytes(self._rest).split(b"\n")
            self._rest = bytearray(incomplete)
        try:
            if len(self._passed) > MAX_TUNNELS:
                raise ValueError("it sends more descriptors than it may")
            if len(self._rest) > words.MAX_BYTES:
                raise ValueError("it has no end")
            self._count(len(lines))
            for line in lines:
                self._said(words.read(line))
        except ValueError as error:
            self._deafen(is_read=False)
            self._spoilt(f"the node cannot read its report: {error}")

    def _count(self, count: int) -> None:
        """Limit the events in a second, so that no container takes all of the node's time."""
        second = int(time.monotonic())
        self._words = count + (self._words if second == self._second else 0)
        self._second = second
        if self._words > WORDS_PER_S:
            raise ValueError(f"it sends more than {WORDS_PER_S} events a second")
