"""A container's first process: the parent of everything in it, and the last to end.

    the node, or a zygote ──▶ init ──▶ the runner, with the user's code

It passes on the container's output and reaps orphaned processes. When the runner has ended, it ends all
other processes of the container, daemons included, and exits with the runner's status. If init ends first,
the runner ends too (PR_SET_PDEATHSIG). Init runs no code of the user, and survives the control plane.
"""

import contextlib
import ctypes
import dataclasses
import fcntl
import gc
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import NoReturn

from homeport.contract.container import Descriptors
from homeport.runner import drain
from homeport.runner.drain import Drain

PR_SET_PDEATHSIG, PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 1, 15, 36  # linux/prctl.h
NULL, OUTPUT, ERRORS, PULSE = 0, 1, 2, 3  # fixed numbers: a later node opens them by number
MAX_DESCRIPTORS = 8
MAX_READ = 64 * 1024
MAX_LAST = 1024 * 1024  # bytes that are passed on after the end
END_S = 5.0  # how long killed processes may take to end
PAUSE_S = 0.002
NAME = "homeport-init"  # in `ps` and `top`
PASSED_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
IGNORED = (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)


def separate() -> Descriptors:
    """Fork: the parent stays as init, and this function returns in the child, the runner.

    Reads the node's descriptors from environment variables and removes these. HOMEPORT_INIT_FD, if set, is
    a socket on which the node gets the runner's pidfd.
    """
    descriptors = Descriptors(
        output=OUTPUT,
        report=_taken("REPORT"),
        door=_taken("DOOR"),
        pulse=_taken("PULSE"),
        lifeline=_taken("LIFELINE") if "HOMEPORT_LIFELINE_FD" in os.environ else None,
    )
    way = _taken("INIT") if "HOMEPORT_INIT_FD" in os.environ else -1
    if os.getsid(0) != os.getpid():
        os.setsid()
    ready_reader, ready_writer = os.pipe()
    runner, printed = _fork()
    if runner:
        if way >= 0:
            with contextlib.suppress(OSError), socket.socket(fileno=way) as node:
                socket.send_fds(node, [b"."], [pidfd := os.pidfd_open(runner)])
                os.close(pidfd)
        os.close(ready_reader)
        os.close(ready_writer)
        _live(descriptors, runner, printed)
    os.close(ready_writer)
    os.read(ready_reader, 1)  # the user's code could stop init before the node knows the runner
    os.close(ready_reader)
    for descriptor in (way, descriptors.lifeline):
        if descriptor is not None and descriptor >= 0:
            os.close(descriptor)
    return dataclasses.replace(descriptors, lifeline=None)


def ahead(
    own_socket: socket.socket, runners: socket.socket, seal: Callable[[], None] = lambda: None
) -> None:
    """Fork init and the runner in a zygote's child, ahead of the command for a container.

    Returns in the runner, which gets its request on `runners`. Init sends the zygote the runner's pidfd on
    `own_socket`, and gets the node's descriptors there; if that socket closes first, both end.
    `seal` takes from init what it needs no more.
    """
    os.setsid()
    runner, printed = _fork()
    if not runner:
        own_socket.close()
        return
    runners.close()
    with contextlib.suppress(OSError):
        socket.send_fds(own_socket, [b"."], [pidfd := os.pidfd_open(runner)])
        os.close(pidfd)
        message, numbers, _, _ = socket.recv_fds(own_socket, 1, MAX_DESCRIPTORS)
        if message:
            _live(Descriptors.of(numbers), runner, printed, seal)
    os._exit(0)


def _taken(name: str) -> int:
    return int(os.environ.pop(f"HOMEPORT_{name}_FD"))


def _fork() -> tuple[int, int]:
    """Fork the runner. In init, return its pid and the pipe of its output; in the runner, (0, -1)."""
    printed, prints = os.pipe()
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    # Signals that arrive before init can pass them on stay pending.
    signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
    init = os.getpid()
    runner = os.fork()
    if runner:
        os.close(prints)
        return runner, printed
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != init:  # init has ended already
        os._exit(1)
    os.setpgid(0, 0)  # so that `kill 0` in the user's code does not reach init
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)
    os.close(printed)
    for stream in (OUTPUT, ERRORS):
        os.dup2(prints, stream)
    os.close(prints)
    return 0, -1


def _live(
    descriptors: Descriptors, runner: int, printed: int, seal: Callable[[], None] = lambda: None
) -> NoReturn:
    """Run as init until the runner has ended."""
    gc.disable()
    _prctl(PR_SET_NAME, ctypes.c_char_p(NAME.encode()))
    printed, lifeline = _settle(descriptors, printed)
    seal()
    init = Init(runner, printed)
    try:
        init.watch(lifeline)
    finally:
        init.end()


def _settle(descriptors: Descriptors, printed: int) -> tuple[int, int]:
    """Move the needed descriptors to their fixed numbers and close all others, above all the door."""
    # First copy all to high numbers: a fixed number may be that of another needed descriptor.
    null = os.open(os.devnull, os.O_RDWR)
    output, pulse = _high(_reopened(descriptors.output)), _high(descriptors.pulse)
    needed = [_high(printed)]
    if descriptors.lifeline is not None:
        needed.append(_high(descriptors.lifeline))
    os.dup2(null, NULL)
    os.dup2(output, OUTPUT)
    os.dup2(output, ERRORS)
    os.dup2(pulse, PULSE)
    for number in [int(name) for name in os.listdir("/proc/self/fd")]:  # noqa: PTH208 - no pathlib here
        if number > PULSE and number not in needed:
            with contextlib.suppress(OSError):
                os.close(number)
    return needed[0], needed[1] if descriptors.lifeline is not None else -1


def _reopened(output: int) -> int:
    """Open the node's pipe again, non-blocking, and for reading too: so it has a reader while the node is down."""
    try:
        return os.open(f"/proc/self/fd/{output}", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # not a pipe: the container was started by hand
        return output


def _high(descriptor: int) -> int:
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 100)


class Init:
    """Waits for the runner, and passes on its output."""

    def __init__(self, runner: int, printed: int) -> None:
        self._runner = runner
        self._pidfd = os.pidfd_open(runner)
        self._status = 0
        self._ended = False
        self._woken, wake = os.pipe()
        for end in (self._woken, wake):
            os.set_blocking(end, False)
        os.set_blocking(printed, False)
        self._drain = Drain(printed, OUTPUT)
        for number in PASSED_ON:
            signal.signal(number, self._pass_on)
        for number in IGNORED:
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, PASSED_ON)

    def watch(self, lifeline: int) -> None:
        """Return when the runner has ended."""
        poll = select.poll()
        for descriptor in (self._woken, self._drain.fileno(), lifeline):
            if descriptor >= 0:
                poll.register(descriptor, select.POLLIN)
        while not self._reap():
            wait_s = self._drain.timeout_s
            for descriptor, _ in poll.poll(None if wait_s is None else wait_s * 1000):
                if descriptor == self._woken:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._woken, MAX_READ)
                elif descriptor == lifeline:
                    poll.unregister(lifeline)
                    self._pass_on(signal.SIGKILL)
                elif self._drain.read() == 0:
                    poll.unregister(self._drain.fileno())
                else:
                    time.sleep(drain.PAUSE_S)
            self._drain.tell()

    def end(self) -> NoReturn:
        """End the container's other processes, then exit as the runner did."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        deadline = time.monotonic() + END_S
        while self._kill_children() and time.monotonic() < deadline:
            self._drain.read()  # a process that waits for room in the pipe would not end
            time.sleep(PAUSE_S)
        left_bytes = MAX_LAST
        while left_bytes > 0 and (size := self._drain.read()):
            left_bytes -= size
        self._drain.finish()
        number = -self._status
        if number > 0:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            with contextlib.suppress(OSError):  # SIGKILL needs no handler, and takes none
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
            os.kill(os.getpid(), number)
        os._exit(self._status if number <= 0 else 128 + number)

    def _pass_on(self, number: int, _frame: object = None) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)

    def _reap(self) -> bool:
        """Reap ended processes; return whether the runner was one of them."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == self._runner:
                    self._status = os.waitstatus_to_exitcode(status)
                    self._ended = True
                if not pid:
                    break
        return self._ended

    def _kill_children(self) -> bool:
        """Kill init's children; return whether there were any. A killed process's children become init's."""
        children = _children()
        for child in children:
            with contextlib.suppress(PermissionError):  # a setuid program, without a cell
                os.kill(child, signal.SIGKILL)  # its number is not reused before init reaps it
        self._reap()
        return bool(children)


def _children() -> list[int]:
    pid = os.getpid()
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:  # noqa: PTH123
            return [int(child) for child in file.read().split()]
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        return [int(name) for name in os.listdir("/proc") if _parent(name) == pid]  # noqa: PTH208


def _parent(name: str) -> int:
    try:
        with open(f"/proc/{name}/stat", encoding="ascii", errors="replace") as file:  # noqa: PTH123
            return int(file.read().rpartition(")")[2].split()[1])
    except (OSError, IndexError, ValueError):
        return -1


def _prctl(option: int, value: int | ctypes.c_char_p) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0):
        sys.exit(f"prctl {option}: {os.strerror(ctypes.get_errno())}")
