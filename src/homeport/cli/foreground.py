"""`homeport up --foreground`: starts the server, and starts it again when it ends; what systemd and a container start.

    SIGTERM, SIGINT   end the server, its containers and HAProxy
    SIGHUP            start the server's code anew: the server finishes its changes and hands over; containers
                      and HAProxy go on, and no request is lost. An upgrade is new code and this signal.

This process is small and stays as it is over upgrades: all that it needs is imported at its start. systemd must
not start the server again itself: a process cannot enter a cgroup whose children have controllers (man 7
cgroups, "no internal processes"), and the server has given its containers some.
"""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from homeport.cli import output
from homeport.contract import codec
from homeport.contract.starting import Started

FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 10.0  # before the server is started again
GOOD_WHILE_S = 30.0  # a server that ran this long had started well
END_S = 60.0  # how long it may take to end everything
HAND_OVER = signal.SIGUSR2  # control/main.py
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


def run(home: Path, environ: Mapping[str, str], *, standby: bool) -> int:
    """Keep a server running until a signal ends it; return the exit code."""
    words = [sys.executable, "-m", "homeport.control", "--kept"]
    if standby:
        words.append("--standby")
    with contextlib.suppress(OSError):
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (home / "server.log").open("a") as log:
            log.write(
                "started in the foreground: this server's log is the standard error of that command\n"
            )
    return Foreground(words, environ, patient=standby).run()


class Foreground:
    """One server after the other, as the children of this process."""

    def __init__(
        self, words: Sequence[str], environ: Mapping[str, str], *, patient: bool = False
    ) -> None:
        """`patient`: start it again also if the first one could not start."""
        self._words = words
        self._is_patient = patient
        self._environ = {k: v for k, v in environ.items() if k != "NOTIFY_SOCKET"}
        self._notify = notifier(environ.get("NOTIFY_SOCKET", ""))
        self._child: subprocess.Popen[bytes] | None = None
        self._signals: list[int] = []
        self._was_ready = False
        self._wait_s = FIRST_WAIT_S

    def run(self) -> int:
        """Start and restart the server until a signal ends it. `Failure` if the first one cannot start."""
        theirs, ours = socket.socketpair()
        for each in (theirs, ours):
            each.setblocking(False)
        signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, lambda got, _frame: self._signals.append(got))
        try:
            return self._run(ours)
        finally:
            for number in SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            signal.set_wakeup_fd(-1)
            theirs.close()
            ours.close()

    def _run(self, news: socket.socket) -> int:
        while True:
            began = time.monotonic()
            self._start()
            ended = self._watch(news)
            if ended is not None:
                return ended
            if time.monotonic() - began >= GOOD_WHILE_S:
                self._wait_s = FIRST_WAIT_S
            if self._pause(news):
                return 0

    def _start(self) -> None:
        self._child = subprocess.Popen(
            self._words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=self._environ,
            cwd="/",
            start_new_session=True,
        )

    def _watch(self, news: socket.socket) -> int | None:
        """Follow one server until its end; return an exit code if there is to be no other one."""
        child = self._child
        assert child is not None
        assert child.stdout is not None
        with child.stdout as told:
            waiting: list[IO[bytes] | socket.socket] = [told, news]
            while child.poll() is None:
                found, _, _ = select.select(waiting, [], [], 1.0)
                if told in found:
                    self._hear(told.readline())
                    waiting.remove(told)
                if news in found:
                    news.recv(4096)
                if self._obey(child):
                    return 0
            if told in waiting:
                self._hear(told.readline())
        self._reap()
        return None

    def _hear(self, line: bytes) -> None:
        """Note what a server says at its start, once: that it is ready, or why it is not."""
        if not line:
            return
        with contextlib.suppress(ValueError, TypeError, KeyError):
            answer = codec.loads(Started, line)
            if answer.error is not None:
                failure = answer.error.failure()
                if not self._was_ready and not self._is_patient:
                    raise failure
                output.show_failure(failure)
            elif answer.ready is not None:
                output.say(f"homeport is up (pid {answer.ready.pid})")
                self._was_ready, self._wait_s = True, FIRST_WAIT_S
                self._notify(f"READY=1\nSTATUS=serving, pid {answer.ready.pid}\n")

    def _obey(self, child: "subprocess.Popen[bytes]") -> bool:
        """Do what the signals ask for; return whether this process is to end."""
        signals, self._signals = self._signals, []
        if signal.SIGTERM in signals or signal.SIGINT in signals:
            self._notify("STOPPING=1\n")
            child.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(END_S)
            if child.poll() is None:
                child.kill()
                child.wait()
            return True
        if signal.SIGHUP in signals:
            self._wait_s = 0.0
            child.send_signal(HAND_OVER)
        if signal.SIGCHLD in signals:
            self._reap()
        return False

    def _pause(self, news: socket.socket) -> bool:
        """Wait before the next start; return whether a signal asks this process to end."""
        deadline = time.monotonic() + self._wait_s
        self._wait_s = min(max(2 * self._wait_s, FIRST_WAIT_S), LONGEST_WAIT_S)
        while (left := deadline - time.monotonic()) > 0:
            if select.select([news], [], [], left)[0]:
                news.recv(4096)
            if {signal.SIGTERM, signal.SIGINT} & set(self._signals):
                return True
            if signal.SIGHUP in self._signals:
                self._signals.remove(signal.SIGHUP)
                return False
        return False

    def _reap(self) -> None:
        """Reap orphans, which this process has if it is the first of a container or a child subreaper."""
        if os.getpid() != 1:
            return
        assert self._child is not None
        with contextlib.suppress(ChildProcessError):
            while (
                ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            ) is not None:
                if ended.si_pid == self._child.pid and self._child.returncode is None:
                    return  # `Popen` reads its exit code
                os.waitpid(ended.si_pid, os.WNOHANG)


def notifier(address: str) -> Callable[[str], None]:
    """Return the function that tells systemd something (man 3 sd_notify); without an address it does nothing."""

    def tell(text: str) -> None:
        if not address:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.connect("\0" + address[1:] if address[0] == "@" else address)
            out.sendall(text.encode())

    return tell
