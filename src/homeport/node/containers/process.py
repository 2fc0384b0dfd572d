"""One container's processes: their environment, their start, their events, their end."""

import asyncio
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
from homeport.contract.container import Descriptors, Event, Launch, sent
from homeport.node.containers import words
from homeport.node.containers.pulses import usage
from homeport.node.held import Held
from homeport.node.limits.watchdog import sessions

READ_BYTES = 64 * 1024
MAX_LAST = 4 * 1024 * 1024  # bytes of its last words
WORDS_PER_S = 20_000
KILL_S = 10.0  # init gives up after half of that
LOOK_S = 0.1  # how often it is looked at meanwhile
CODE_S = 1.0  # a zygote tells the exit code of what it forked at once, if it lives


class Born(Protocol):
    """What a zygote has forked: see node/zygotes/zygote.py."""

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
    """A container's processes, as its node sees them: init, the runner, and whoever they start."""

    def __init__(
        self,
        launch: Launch,
        said: Callable[[Event], None],
        spoilt: Callable[[str], None] = lambda _why: None,
    ) -> None:
        self._launch = launch
        self._said = said
        self._spoilt = spoilt  # it has said what no runner says: why
        self._words = 0  # in this second
        self._second = 0
        self._popen: subprocess.Popen[bytes] | None = None
        self._code: asyncio.Future[int | None] | None = None  # a forked one's
        self._init: Held | None = None
        self._runner: Held | None = None
        self._report: socket.socket | None = None
        self._way: socket.socket | None = None  # on which init says who the runner is
        self._rest = b""
        self._known = asyncio.Event()  # which process the runner is, or that there is none
        self._ended = asyncio.Event()

    @property
    def pid(self) -> int:
        """Of the runner; 0 before it is known."""
        return self._runner.pid if self._runner else 0

    @property
    def leader(self) -> int:
        """Of init, whose session the container is; 0 before it runs."""
        return self._init.pid if self._init else 0

    def start(
        self, argv: Sequence[str], environ: dict[str, str], cwd: Path, given: Descriptors
    ) -> None:
        """Start init in a session of its own, which begins the runner, and hand them what is theirs."""
        ours, theirs = socket.socketpair()
        way, inits = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs, inits:
            given = dataclasses.replace(given, report=theirs.fileno())
            try:
                self._popen = subprocess.Popen(
                    list(argv),
                    stdin=subprocess.PIPE,
                    stdout=given.output,
                    stderr=given.output,
                    env={**environ, **given.environ(), "HOMEPORT_INIT_FD": str(inits.fileno())},
                    cwd=cwd,
                    pass_fds=(*given.in_order()[1:], inits.fileno()),
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

    async def fork(self, fork: Fork, given: Descriptors) -> Born:
        """Have a zygote begin them; raises what the zygotes raise."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                born = await fork(dataclasses.replace(given, report=theirs.fileno()))
            except BaseException:
                ours.close()
                raise
        self._code = born.code
        self._runner = born.runner
        self._known.set()
        self._listen(ours)
        self._watch(born.init)
        return born

    def adopt(self, leader: int, pid: int) -> None:
        """Watch what an earlier server started; `OSError` if it has ended."""
        self._watch(Held(leader, os.pidfd_open(leader)))
        self._runner = Held.of(os.pidfd_open(pid), parent=leader)

    async def known(self) -> None:
        """Return once the node knows which process the runner is: init says so."""
        await self._known.wait()

    async def ended(self) -> int | None:
        """The runner's exit code, negative for a signal, once nothing is left of the container.

        None for somebody else's child.
        """
        await self._ended.wait()
        if self._code is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CODE_S):
                    return await asyncio.shield(self._code)
        return self._popen.wait() if self._popen else None

    async def killed(self) -> None:
        """SIGKILL to the runner, with which init ends everything; return once init has ended.

        One that is stopped again, or takes too long, is killed too: what it leaves behind is for the caller.
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
        """Let init go on if somebody has stopped it: it notices nothing meanwhile."""
        if self._init is not None:
            self._init.signal(signal.SIGCONT)

    def signal(self, number: signal.Signals) -> None:
        """To the runner alone, which passes it on as it sees fit."""
        if (held := self._runner or self._init) is not None:
            held.signal(number)

    def tell(self, message: Mapping[str, object]) -> None:
        """One line to the runner; nothing where it does not listen (or never reads what it is told)."""
        if self._report is not None:
            with contextlib.suppress(OSError):
                self._report.send(json.dumps(message).encode() + b"\n")

    def close(self) -> None:
        """Give the descriptors back."""
        left = MAX_LAST
        while self._report is not None and left > 0 and self._has_word():
            self._read()
            left -= READ_BYTES
        self._deafen()
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

    def _deafen(self) -> None:
        if self._report is not None:
            asyncio.get_running_loop().remove_reader(self._report.fileno())
            self._report.close()
            self._report = None

    def _meet(self) -> None:
        """Init says which process the runner is."""
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
        self._known.set()

    def _watch(self, init: Held) -> None:
        self._init = init
        loop = asyncio.get_running_loop()
        loop.add_reader(init.pidfd, self._gone, loop)

    def _gone(self, loop: asyncio.AbstractEventLoop) -> None:
        assert self._init is not None
        loop.remove_reader(self._init.pidfd)
        self._ended.set()

    def _read(self) -> None:
        """Some words; the loop calls again while there are more."""
        if self._report is None:
            return
        try:
            data = self._report.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:  # it was closed with something unread
            data = b""
        if not data:
            self._deafen()
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        try:
            if len(self._rest) > words.MAX_BYTES:
                raise ValueError("it has no end")
            self._count(len(lines))
            for line in lines:
                self._said(words.read(line))
        except ValueError as error:
            self._deafen()
            self._spoilt(f"what it told its node cannot be read: {error}")

    def _count(self, said: int) -> None:
        """A container that talks without end would keep the node from everything else."""
        second = int(time.monotonic())
        self._words = said + (self._words if second == self._second else 0)
        self._second = second
        if self._words > WORDS_PER_S:
            raise ValueError(f"it says more than {WORDS_PER_S} words a second")


def session_members(leader: int) -> list[int]:
    """Every process of the session that `leader` began, and their descendants elsewhere."""
    return sessions([leader])[leader]
