"""A zygote's side of its socket: forks a child for each command of the node (protocol in zygote.py)."""

import contextlib
import json
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Iterable
from typing import Any

from homeport.contract.container import Descriptors
from homeport.contract.dataclass import dataclass
from homeport.runner import celled, init, setup, tmp
from homeport.runner.zygotes import child
from homeport.runner.zygotes.child import Child
from homeport.runner.zygotes.pages import Pages
from homeport.sdk.preload.shelf import Shelf

MAX_MESSAGE = 64 * 1024
MAX_DESCRIPTORS = 253  # SCM_MAX_FD: the most that the kernel sends in one message (man 7 unix)
TRIES = 3  # how often to fork a child if the ones before ended too early
SPARE_S = 0.05  # after this idle time the zygote forks the next child ahead
FIRST_LOOK_S = 0.05  # soon, as the first container may not live long; most starts are over by then
LOOK_S = 0.25  # after this idle time it reads which pages its latest container has written to
MORE_S = 0.25  # after this idle time it forks one more child for a burst
BURST_S = 1.0  # containers that are forked with less time in between may belong to one burst
MAX_SPARES = 8
LOOKS = 3  # how many containers it reads; it uses the one that has written to most pages


@dataclass
class Spare:
    """An init and a runner that were forked ahead of time, idle until the next command for a container."""

    init: int
    to_init: socket.socket
    to_runner: socket.socket
    storage: str  # of its cell
    leads: bool  # it is the next container, so it copies pages ahead


class Zygote:
    """Forks on command, and reports how its children ended.

    It keeps as many spares as its last burst of commands needed; after each smaller burst it keeps one less.
    One class, because its loop reads commands, spares and ended children of the same process.
    """

    def __init__(self, control: socket.socket, shelf: Shelf, written: Pages | None = None) -> None:
        self._control = control
        self._shelf = shelf
        self._written = written
        self._latest = -1  # the pidfd of a runner whose pages it will read
        self._looks = LOOKS
        self._rests = False
        self._children: set[int] = set()
        self._retired = False
        self._spares: list[Spare] = []
        self._wanted = 1  # how many it keeps
        self._burst: set[int] = set()  # the living containers of the latest burst
        self._forked_at = 0.0
        self._selector = selectors.DefaultSelector()
        self._pipe = (-1, -1)  # written to when a child has ended

    def tell(self, message: dict[str, Any], descriptors: tuple[int, ...] = ()) -> bool:
        """Send one message; return False if the node has ended."""
        try:
            socket.send_fds(self._control, [json.dumps(message).encode()], list(descriptors))
        except OSError:
            return False
        return True

    def tell_pid(self) -> None:
        """Send the node this process's pidfd; exit if that fails, because nothing else could end this process.

        A pidfd, because in a cell the pid is a number of the cell.
        """
        handle = os.pidfd_open(os.getpid())
        if not self.tell({"pid": os.getpid()}, (handle,)):
            os._exit(0)
        os.close(handle)

    def serve(self) -> Child:
        """Obey commands. Return in each child; in the zygote itself never, because it exits here."""
        woken, wake = self._pipe = os.pipe()
        for end in self._pipe:
            os.set_blocking(end, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self._selector.register(self._control, selectors.EVENT_READ)
        self._selector.register(woken, selectors.EVENT_READ)
        while not (self._retired and not self._children):
            ready = self._selector.select(self._idle_s())
            new_child = None if ready else self._prepare()
            ready_objects = {key.fileobj for key, _ in ready}
            if woken in ready_objects:
                os.read(woken, 4096)
                self._reap()
            if self._control in ready_objects:  # last, because a child returns from here
                new_child = self._obey()
            if new_child is not None:
                return new_child
        os._exit(0)

    def _idle_s(self) -> float | None:
        """Return how long to wait before the work for the next container; None without such work."""
        if self._retired or self._rests:
            return None
        if not self._is_led:
            return SPARE_S
        if self._latest >= 0:
            return FIRST_LOOK_S if self._written is None else LOOK_S
        return None if len(self._spares) == self._wanted else MORE_S

    @property
    def _is_led(self) -> bool:
        return bool(self._spares) and self._spares[0].leads

    def _prepare(self) -> Child | None:
        """Fork the next child; later, read whether more pages could be copied, and fork children for a burst."""
        if not self._is_led:
            return self._have_spare()
        if self._latest < 0:
            if len(self._spares) < self._wanted:
                return self._have_spare()
            self._drop(self._spares.pop())
            return None
        pages = Pages.of(self._latest)
        self._forget_latest()
        if pages is None:
            return None
        first, self._looks = self._looks == LOOKS, self._looks - 1
        if first or self._written is None or pages.count > self._written.count:
            self._written = pages
            self._drop(self._spares.pop(0))  # the next spare in line copies these pages
        return None

    def _forget_latest(self) -> None:
        if self._latest >= 0:
            os.close(self._latest)
        self._latest = -1

    def _obey(self) -> Child | None:
        try:
            message, descriptors, *_ = socket.recv_fds(self._control, MAX_MESSAGE, MAX_DESCRIPTORS)
        except ConnectionResetError:  # the node has ended and had not read all reports (man 7 unix)
            message, descriptors = b"", []
        if not message:
            self._drop_spares()
            os._exit(0)
        kind, _, more = message.decode().partition(" ")
        if kind == "retire":
            self._retired = True
            self._drop_spares()
            return None
        if kind == "rest":
            self._rests = True
            self._drop_spares()
            return None
        if kind != "fork":
            return self._have_zygote(kind, descriptors)
        self._rests = False
        for _ in range(TRIES):
            new_child = None if self._spares else self._have_spare(descriptors)
            if new_child is not None or self._use_spare(descriptors, int(more or 0)):
                break
        else:
            sys.exit("no child lives long enough to become a container")
        if new_child is None:
            _close(descriptors)
        return new_child

    def _count(self, init: int) -> None:
        """Learn how many spares a burst needs: containers that live at the same time."""
        now = time.monotonic()
        if now - self._forked_at > BURST_S:
            self._burst.clear()
            self._wanted = max(self._wanted - 1, 1)
        self._forked_at = now
        self._burst.add(init)
        self._wanted = min(max(self._wanted, len(self._burst)), MAX_SPARES)

    def _have_zygote(self, kind: str, descriptors: list[int]) -> Child | None:
        request, output, control, *cell = descriptors
        if child.fork_zygote(request, cell, output):
            _close(descriptors)
            return None
        self._leave()
        return Child(
            kind,
            request,
            output=setup.keep(output),
            control=setup.keep(control),
            written=self._written,
        )

    def _have_spare(self, not_its: Iterable[int] = ()) -> Child | None:
        """Fork a spare. Return None in the zygote; in the spare's runner, return when it is needed.

        `not_its` are descriptors of the container that is asked for. The spare closes its copies: it gets
        the descriptors later, and a second copy of the door would stay open unnoticed.
        """
        kind = socket.AF_UNIX, socket.SOCK_SEQPACKET
        (to_init, inits), (to_runner, runners) = socket.socketpair(*kind), socket.socketpair(*kind)
        zygote = os.getpid()
        leads = not self._is_led
        try:
            init_pid = celled.fork()
        except OSError as error:
            if os.getpid() == zygote:
                raise
            inits.send(f"its cell cannot be made: {error}".encode())
            os._exit(1)
        if init_pid:
            inits.close()
            runners.close()
            spare = Spare(init_pid, to_init, to_runner, celled.storage(), leads)
            self._spares.insert(0 if leads else len(self._spares), spare)
            return None
        to_init.close()
        to_runner.close()
        # In init too: else the node would not see the zygote's end, and the other spares not theirs.
        self._control.close()
        self._close_spares()
        _close(not_its)
        init.ahead(inits, runners, celled.seal_init)
        self._leave()
        if leads and self._written is not None:
            self._written.fetch(runners.fileno())
        message, descriptors, _, _ = socket.recv_fds(runners, 16, MAX_DESCRIPTORS)
        if not message:
            os._exit(0)
        for descriptor in descriptors:
            setup.keep(descriptor)
        end = len(descriptors) - int(message)
        descriptors_of_container = Descriptors.of(descriptors[1:end])
        return Child(
            "fork", descriptors[0], descriptors_of_container, runners, tuple(descriptors[end:])
        )

    def _use_spare(self, descriptors: list[int], more: int) -> bool:
        """Use the spare and answer `forked` or `stale`. Return False if the spare was killed.

        The last `more` descriptors are for its cell.

        The check of all files takes milliseconds, so the runner gets its request before the check. Until
        `Child.wait` it changes only itself, and it ends there if the check has found a change.
        """
        spare = self._spares.pop(0)
        runner: list[int] = []
        stale = ""
        try:
            word, runner, _, _ = socket.recv_fds(spare.to_init, 4096, 1)
            if not runner:
                raise OSError(0, word.decode() or "somebody has killed it")
            socket.send_fds(spare.to_runner, [str(more).encode()], descriptors)
            stale = self._objection(descriptors[0])
            if not stale:
                socket.send_fds(spare.to_init, [b"."], descriptors[1 : len(descriptors) - more])
                spare.to_runner.send(b".")
        except OSError as error:
            self.tell({"lost": error.strerror})
            runner = _close(runner)
        spare.to_init.close()
        spare.to_runner.close()
        if stale or not runner:
            # Init ends when its socket closes, and the runner with it.
            child.reap(spare.init)
            _close(runner)
            if stale:
                self.tell({"stale": stale})
            else:
                self._drop_spares()  # the cause of this one's end may have ended all
            return bool(stale)
        self._children.add(spare.init)
        self._count(spare.init)
        handles = os.pidfd_open(spare.init), *runner
        self.tell({"forked": spare.init, "storage": spare.storage}, handles)
        self._forget_latest()
        if self._looks > 0:
            self._latest = os.dup(handles[1])
        _close(handles)
        return True

    def _objection(self, request: int) -> str:
        """Return why the imported modules cannot be used; empty for a container that begins fresh."""
        request_data = child.data(request)
        if request_data.get("fresh"):
            return ""
        return self._shelf.stale() or self._shelf.unlike(_environ(request_data))

    def _drop_spares(self) -> None:
        while self._spares:
            self._drop(self._spares.pop())

    def _drop(self, spare: Spare) -> None:
        spare.to_init.close()
        spare.to_runner.close()
        child.reap(spare.init)
        celled.forget(spare.storage)

    def _close_spares(self) -> None:
        """In a child: let the zygote alone hold the spares' sockets."""
        for spare in self._spares:
            spare.to_init.close()
            spare.to_runner.close()
        self._spares.clear()

    def _leave(self) -> None:
        """In a child: close the zygote's own descriptors."""
        self._selector.close()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for end in self._pipe:
            os.close(end)
        self._forget_latest()
        self._control.close()
        self._close_spares()

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    break
                if pid in self._children:
                    self._children.discard(pid)
                    self._burst.discard(pid)
                    code = celled.code(os.waitstatus_to_exitcode(status))
                    self.tell({"ended": [pid, code]})


def _environ(request_data: dict[str, Any]) -> dict[str, str]:
    """Return the environment variables of the requested container."""
    variables: dict[str, str] = request_data["environ"]
    return {**variables, "TMPDIR": tmp.TMP} if tmp.possible() else variables


def _close(descriptors: Iterable[int]) -> list[int]:
    for descriptor in descriptors:
        os.close(descriptor)
    return []
