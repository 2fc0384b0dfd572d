"""The node's side of one zygote: sends it commands over its socket (runner/zygotes/zygote.py)."""

import asyncio
import collections
import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from homeport import removing
from homeport.contract.container import Descriptors, Event
from homeport.contract.dataclass import dataclass
from homeport.contract.sizes import MIB
from homeport.node import received
from homeport.node.cells.sandbox import Sandbox
from homeport.node.held import Held

MAX_MESSAGE = MIB
TITLE = 240  # characters of a container's title in `ps`
SEND_BUFFER = 256 * 1024
READY_S = 120.0  # how long its imports may take
OVER_S = 10.0  # from its end to that of its cell, whose containers have ended


log = logging.getLogger(__name__)


class Gone(Exception):
    """The zygote has ended"""


class Stale(Exception):
    """A file that the zygote has imported has changed"""


@dataclass(frozen=True, slots=True)
class Forked:
    """A forked container; its receiver closes the pidfds."""

    init: Held
    runner: Held
    code: "asyncio.Future[int | None]"  # its exit code; None if the zygote ended first
    origin: str = "forked"  # or `snapshot`
    storage: str = ""  # the directory of its cell, in that of its zygote's
    #: The snapshot's event, if the snapshot was made for this container.
    snapshot: Event | None = None


class Zygote:
    """A zygote's socket, and the commands that wait for an answer.

    One class, because every method is one message on the same socket.
    """

    def __init__(
        self,
        control: socket.socket,
        process: subprocess.Popen[bytes] | None,
        *,
        origin: str = "forked",
        printed: int | None = None,
        directory: Path | None = None,
        sandbox: Sandbox | None = None,
    ) -> None:
        self.sandbox = sandbox  # for the cells of the processes that it forks
        self.has_spare = True  # it keeps a child ahead, or is about to fork one
        self.holds: frozenset[str] = frozenset()  # modules, of a base zygote
        self.made_for = ""  # a snapshot's: the container that waited for it
        self.start: Event | None = None  # a snapshot's: how long it took to make
        self.used_at = time.monotonic()
        self.gone = False
        self.pid = process.pid if process else 0
        self._process = process
        self._held: Held | None = None  # of a zygote that another one has forked
        self._origin = origin
        self._printed = ""
        self._output = printed  # a file with what it prints
        self._directory = directory  # which ends with it
        self._control = control
        self._loop = asyncio.get_running_loop()
        self._first: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        self._answers: collections.deque[asyncio.Future[Forked]] = collections.deque()
        self._codes: dict[int, asyncio.Future[int | None]] = {}
        control.setblocking(False)
        self._loop.add_reader(control.fileno(), self._hear)

    @staticmethod
    def spawn(
        python: str,
        cwd: Path,
        environ: Mapping[str, str],
        settings: Mapping[str, Any],
        sandbox: Sandbox | None = None,
    ) -> "Zygote":
        """Start a zygote in a fresh interpreter, in a new base cell if it has a sandbox."""
        # Only the length of the last word matters: a container writes its title over it.
        argv = [python, "-m", "homeport.runner", str(cwd).ljust(TITLE)]
        if sandbox is not None:
            argv, environ = sandbox.command(argv, cwd), {**environ, **sandbox.environ()}
        ours, theirs = _pair()
        output = os.memfd_create("zygote")
        with theirs:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                cwd=cwd,
                env={**environ, "HOMEPORT_ZYGOTE_FD": str(theirs.fileno())},
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
            stdin.write(json.dumps(settings).encode() + b"\n")
        return Zygote(ours, process, printed=output, sandbox=sandbox)

    def snapshot(
        self,
        request: Mapping[str, Any],
        output: int,
        directory: Path,
        cell: Sequence[int] = (),
    ) -> "Zygote":
        """Fork a zygote that will hold the state of the user's code; `directory` is deleted with it."""
        return self._child(
            "snapshot", request, output, cell, origin="snapshot", directory=directory
        )

    def function(self, request: Mapping[str, Any], cell: Sequence[int] = ()) -> "Zygote":
        """Fork a zygote that will hold the modules of one function."""
        output = os.memfd_create("zygote")
        try:
            return self._child("function", request, output, cell, printed=output)
        except BaseException:
            os.close(output)
            raise

    def _child(
        self,
        word: str,
        request: Mapping[str, Any],
        output: int,
        cell: Sequence[int],
        **changes: Any,
    ) -> "Zygote":
        ours, theirs = _pair()
        with theirs:
            try:
                self._ask(word, request, (output, theirs.fileno(), *cell))
            except BaseException:
                ours.close()
                raise
        sandbox = self.sandbox and self.sandbox.below(request["storage"])
        return Zygote(ours, None, sandbox=sandbox, **changes)

    async def first_word(self) -> dict[str, Any]:
        """Wait for its first message: `ready`, `unsafe` or `failed`; raises `Gone`."""
        return await asyncio.shield(self._first)

    async def fork(
        self, request: Mapping[str, Any], handed_over: Descriptors, cell: Sequence[int] = ()
    ) -> Forked:
        """Fork a container with these descriptors, and those for its cell. Raises `Gone` or `Stale`."""
        self.has_spare = True
        answer: asyncio.Future[Forked] = self._loop.create_future()
        self._ask(f"fork {len(cell)}", request, (*handed_over.in_order(), *cell))
        self._answers.append(answer)
        try:
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            answer.add_done_callback(_unwanted)
            raise

    def touch(self) -> None:
        """Note that it was used just now."""
        self.used_at = time.monotonic()

    def rest(self) -> None:
        """Tell it to keep no child ahead until it forks again."""
        self.has_spare = False
        with contextlib.suppress(OSError):
            self._control.send(b"rest")

    def retire(self) -> None:
        """Let it end by itself once its containers have ended."""
        with contextlib.suppress(OSError):
            self._control.send(b"retire")

    def end(self) -> None:
        """End it now; its containers continue."""
        self._hear()  # its pid may be on its way
        self._kill()

    @property
    def is_over(self) -> bool:
        """True once the process that was started for it is gone, and with it its cell."""
        return self._process is None or self._process.returncode is not None

    async def over(self) -> None:
        """Wait, after its end, until it is over. What is left after `OVER_S` has a line in the log."""
        if self._process is None:
            return
        try:
            await asyncio.to_thread(self._process.wait, OVER_S)
        except subprocess.TimeoutExpired:
            log.warning("the process %d of a zygote has not ended", self._process.pid)

    def _kill(self) -> None:
        if not self.gone:
            # In a cell the process that was started is another: it lasts as long as the cell.
            if self._process is not None and self.sandbox is None:
                self._process.kill()
            elif self._held is not None:
                self._held.signal(signal.SIGKILL)
            elif self._process is not None:
                self._process.kill()
            self._lost()

    def last_words(self) -> str:
        """Return the text that it printed before it ended."""
        lines = self._printed.strip().splitlines()
        return lines[-1] if lines else "it said nothing"

    def _ask(self, word: str, request: Mapping[str, Any], descriptors: tuple[int, ...]) -> None:
        if self.gone:
            raise Gone
        handle = os.memfd_create("request")
        try:
            # Secrets are in it: memory only, and gone with its reader.
            os.write(handle, json.dumps(request).encode())
            socket.send_fds(self._control, [word.encode()], [handle, *descriptors])
        except OSError:
            self._lost()
            raise Gone from None
        finally:
            os.close(handle)

    def _hear(self) -> None:
        while not self.gone:
            try:
                data, descriptors, _, _ = socket.recv_fds(self._control, MAX_MESSAGE, 2)
            except BlockingIOError:
                return
            except OSError:
                data, descriptors = b"", []
            if not data:
                self._lost()
                return
            unused = [descriptor for descriptor in descriptors if Held.is_one(descriptor)]
            try:
                if len(unused) < len(descriptors):
                    received.close(set(descriptors) - set(unused))
                    raise ValueError("it sends descriptors that are no processes")
                self._handle(json.loads(data), unused)
            except (ValueError, TypeError, KeyError, IndexError, OSError) as error:
                # The user's code in a snapshot may write anything here.
                log.warning("the zygote %d is ended, for what it said: %r", self.pid, error)
                self._kill()
            finally:
                for descriptor in unused:
                    os.close(descriptor)

    def _handle(self, message: dict[str, Any], descriptors: list[int]) -> None:
        """Handle a message; remove the descriptors that are used from the list."""
        if "forked" in message:
            code: asyncio.Future[int | None] = self._loop.create_future()
            self._codes[message["forked"]] = code
            init = Held.of(descriptors.pop(0), parent=self.pid)
            runner = Held.of(descriptors.pop(0), parent=init.pid)
            answer = self._answers.popleft()
            forked = Forked(init, runner, code, self._origin, _storage(message["storage"]))
            if answer.done():
                _end(forked)
            else:
                answer.set_result(forked)
        elif "stale" in message and self._first.done():
            answer = self._answers.popleft()
            if not answer.done():
                answer.set_exception(Stale(message["stale"]))
        elif "ended" in message:
            pid, status = message["ended"]
            if (waiter := self._codes.pop(pid, None)) is not None and not waiter.done():
                waiter.set_result(status)
        elif "pid" in message:
            # Said before the user's code runs; what comes later is not ours. A function's zygote runs
            # none, and is another process after each module.
            if self._held is None or (self._origin == "forked" and not self._first.done()):
                self._hold(descriptors.pop(0))
        elif "lost" in message:
            log.warning(
                "a child of the zygote %d has ended too early: %s", self.pid, message["lost"]
            )
        elif not self._first.done():
            self._first.set_result(message)

    def _hold(self, pidfd: int) -> None:
        held = Held.sent(pidfd)
        if self._held is not None:
            self._held.close()
        self._held, self.pid = held, held.pid

    def _lost(self) -> None:
        self.gone = True
        if self._output is not None:
            self._printed = os.pread(self._output, MAX_MESSAGE, 0).decode("utf-8", "replace")
            os.close(self._output)
            self._output = None
        self._loop.remove_reader(self._control.fileno())
        received.close([self._control.detach()])
        if self._held is not None:
            self._held.close()
        waits: list[asyncio.Future[Any]] = [self._first, *self._answers]
        for waiting in waits:
            if not waiting.done():
                waiting.set_exception(Gone())
                waiting.exception()  # so that asyncio does not complain if no caller waits
        for code in self._codes.values():
            if not code.done():
                code.set_result(None)
        self._answers.clear()
        self._codes.clear()
        if self._process is not None:
            threading.Thread(target=self._process.wait, daemon=True).start()  # no zombie
        if self._directory is not None:
            removing.discard(str(self._directory))
        if self.sandbox is not None:
            self.sandbox.release()


async def first_message(zygote: Zygote) -> dict[str, Any]:
    """Return a zygote's message after its imports; with `failure` if it has ended."""
    try:
        async with asyncio.timeout(READY_S):
            word = await zygote.first_word()
    except (Gone, TimeoutError):
        zygote.end()
        failure = f"the zygote did not start: {zygote.last_words()}"
        log.warning("%s", failure)
        return {"failure": failure}
    except BaseException:
        zygote.end()
        raise
    if "ready" not in word:
        zygote.end()
    return word


def _storage(name: str) -> str:
    """Return a directory's name; `ValueError` for any other text."""
    if name and not name.isdecimal():
        raise ValueError(f"{name!r} is not the name of a cell")
    return name


def _unwanted(answer: "asyncio.Future[Forked]") -> None:
    """End a child whose requester has given up."""
    if not answer.exception():
        _end(answer.result())


def _end(forked: Forked) -> None:
    forked.runner.signal(signal.SIGKILL)  # its init ends with it
    for process in (forked.init, forked.runner):
        process.close()


def _pair() -> tuple[socket.socket, socket.socket]:
    """Return a pair of sockets that keep messages whole and carry descriptors (man 7 unix)."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    return ours, theirs
