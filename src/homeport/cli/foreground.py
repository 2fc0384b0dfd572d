"""`homeport up --foreground`: starts the server, and starts it again when it ends; what systemd and a container start.

`homeport node join --foreground` does the same for the agent of a machine that has joined.

    SIGTERM, SIGINT   end the server, its containers and HAProxy, whatever the server does at that moment
    SIGHUP            start the server's code again: the server finishes its changes and hands over; containers
                      and HAProxy continue, and no request is lost. An upgrade is new code and this signal.
    homeport down     ends the server, and this process with it

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
from homeport.contract.errors import AlreadyExists, Failure, StorageError
from homeport.contract.starting import LOCK, WAITING, Ending, Started, leader

FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 10.0  # before the server is started again
GOOD_WHILE_S = 30.0  # a server that ran this long had started well
END_S = 60.0  # how long it may take to end everything
HAND_OVER_S = 60.0  # how long it may take to hand over; for its changes it waits half of that (control/main.py)
LEFT_S = 20.0  # how long it may take to end the processes that a server has left
HAND_OVER = signal.SIGUSR2  # control/main.py
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
STANDBY, LEFT = "--standby", "--end"  # arguments of the server (control/main.py)


def run(home: Path, environ: Mapping[str, str], *, standby: bool) -> int:
    """Keep a server running until a signal ends it; return the exit code."""
    words = [sys.executable, "-P", "-m", "homeport.control", "--kept"]
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        if standby:
            (home / WAITING).open("a").close()  # a standby that cannot wait would be tried forever
    except OSError as error:
        raise StorageError(f"{error.filename or home}: {error.strerror}") from None
    with contextlib.suppress(OSError), (home / "server.log").open("a") as log:
        log.write(
            "started in the foreground: this server's log is the standard error of that command\n"
        )
    return Foreground(words, environ, lock=home / LOCK, standby=standby).run()


def run_agent(home: Path, environ: Mapping[str, str]) -> int:
    """Keep the agent of a machine that has joined running until a signal ends it; return the exit code."""
    words = [sys.executable, "-P", "-m", "homeport.node", "--kept"]
    return Foreground(words, environ, lock=home / LOCK, what="the agent").run()


class Foreground:
    """One server after the other, as the children of this process."""

    def __init__(
        self,
        words: Sequence[str],
        environ: Mapping[str, str],
        *,
        lock: Path,
        standby: bool = False,
        hand_over_s: float = HAND_OVER_S,
        what: str = "homeport",
    ) -> None:
        """`standby`: wait until the server may lead; it is started again also if the first one could not start.

        `lock` is the file in which the server that leads the home writes its pid (control/standby.py).
        """
        self._words = words
        self._lock = lock
        self._is_standby = standby
        self._hand_over_s = hand_over_s
        self._what = what  # for messages
        self._environ = {k: v for k, v in environ.items() if k != "NOTIFY_SOCKET"}
        self._notify = notifier(environ.get("NOTIFY_SOCKET", ""))
        self._child: subprocess.Popen[bytes] | None = None
        self._children: set[int] = set()
        self._signals: list[int] = []
        self._is_ready = False  # the server that runs
        self._was_ready = False  # one of them
        self._ends_at: float | None = None  # when a server that hands over is killed
        self._wait_s = FIRST_WAIT_S

    def run(self) -> int:
        """Start and restart the server until a signal ends it. `Failure` if the first one cannot start."""
        theirs, ours = socket.socketpair()
        for end in (theirs, ours):
            end.setblocking(False)
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
            if self._watch(news):
                break
            if time.monotonic() - began >= GOOD_WHILE_S:
                self._wait_s = FIRST_WAIT_S
            if self._pause(news):
                break
        self._end_left()
        return 0

    def _start(self) -> None:
        self._is_ready, self._ends_at = False, None
        self._child = subprocess.Popen(
            [*self._words, *([STANDBY] if self._is_standby else [])],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=self._environ,
            cwd="/",
            start_new_session=True,
        )
        self._children.add(self._child.pid)

    def _watch(self, news: socket.socket) -> bool:
        """Follow one server until its end; return whether there is to be no other one."""
        child = self._child
        assert child is not None
        assert child.stdout is not None
        with child.stdout as stdout:
            waiting: list[IO[bytes] | socket.socket] = [stdout, news]
            while child.poll() is None:
                readable, _, _ = select.select(waiting, [], [], 1.0)
                if stdout in readable:
                    self._hear(stdout.readline())
                    waiting.remove(stdout)
                if news in readable:
                    news.recv(4096)
                if self._obey(child):
                    return True
            if stdout in waiting:
                self._hear(stdout.readline())
        self._reap()
        return child.returncode == Ending.DOWN

    def _hear(self, line: bytes) -> None:
        """Read a server's first line, once: that it is ready, or why it is not."""
        if not line:
            return
        with contextlib.suppress(ValueError, TypeError, KeyError):
            answer = codec.loads(Started, line)
            if answer.error is not None:
                failure = answer.error.failure()
                if not self._was_ready and not self._is_standby:
                    raise failure
                # Another server leads the home now, such as a standby.
                self._is_standby = self._is_standby or isinstance(failure, AlreadyExists)
                _show(failure)
            elif answer.ready is not None:
                _show(f"{self._what} is up (pid {answer.ready.pid})")
                self._is_ready = self._was_ready = True
                self._wait_s = FIRST_WAIT_S
                self._notify(f"READY=1\nSTATUS=serving, pid {answer.ready.pid}\n")

    def _obey(self, child: "subprocess.Popen[bytes]") -> bool:
        """Do what the signals ask for; return whether this process has to end."""
        if {signal.SIGTERM, signal.SIGINT} & set(self._signals):
            self._notify("STOPPING=1\n")
            self._end(child)
            return True
        if signal.SIGHUP in self._signals:
            self._replace(child)
        if signal.SIGCHLD in self._signals:
            self._forget(signal.SIGCHLD)
            self._reap()
        if self._ends_at is not None and time.monotonic() > self._ends_at:
            _show(f"the server (pid {child.pid}) does not hand over, and is killed")
            child.kill()
            self._ends_at = None
        return False

    def _replace(self, child: "subprocess.Popen[bytes]") -> None:
        """Ask a server to hand over, once it is ready; it is killed if that takes too long."""
        if self._is_ready or not self._is_standby:
            self._ends_at = self._ends_at or time.monotonic() + self._hand_over_s
        if self._is_ready:
            self._wait_s = 0.0
            child.send_signal(HAND_OVER)
        if self._is_ready or self._is_standby:
            # A standby begins with the code of that moment anyway.
            self._forget(signal.SIGHUP)

    def _end(self, child: "subprocess.Popen[bytes]") -> None:
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(END_S)
        if child.poll() is None:
            child.kill()
            child.wait()

    def _pause(self, news: socket.socket) -> bool:
        """Wait before the next start; return whether a signal asks this process to end."""
        deadline = time.monotonic() + self._wait_s
        self._wait_s = min(max(2 * self._wait_s, FIRST_WAIT_S), LONGEST_WAIT_S)
        while True:
            if {signal.SIGTERM, signal.SIGINT} & set(self._signals):
                self._notify("STOPPING=1\n")
                return True
            if signal.SIGHUP in self._signals:
                self._forget(signal.SIGHUP)
                return False
            if (left_s := deadline - time.monotonic()) <= 0:
                return False
            if select.select([news], [], [], left_s)[0]:
                news.recv(4096)

    def _end_left(self) -> None:
        """End HAProxy and the containers, if the last server that led the home was ours, and has left them."""
        child = self._child
        assert child is not None
        if child.returncode in (Ending.SIGNAL, Ending.DOWN) or not self._has_led():
            return
        words = [*self._words, LEFT]
        cleaner = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=self._environ,
            cwd="/",
            start_new_session=True,
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            cleaner.wait(LEFT_S)
        if cleaner.poll() is None:
            cleaner.kill()
            cleaner.wait()

    def _has_led(self) -> bool:
        with contextlib.suppress(OSError, ValueError):
            return leader(self._lock.read_text())[0] in self._children
        return False

    def _forget(self, number: int) -> None:
        """Forget a signal, also if it came several times."""
        while number in self._signals:
            self._signals.remove(number)

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


def _show(message: str | Failure) -> None:
    """Show a message; the reader of standard error may have ended, and this process continues without it."""
    try:
        if isinstance(message, Failure):
            output.show_failure(message)
        else:
            output.say(message)
    except (OSError, ValueError, SystemExit):  # rich ends a program whose output is not read
        with contextlib.suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 2)
            os.close(null)


def notifier(address: str) -> Callable[[str], None]:
    """Return the function that sends systemd a message (man 3 sd_notify); without an address it does nothing."""

    def tell(text: str) -> None:
        if not address:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.connect("\0" + address[1:] if address[0] == "@" else address)
            out.sendall(text.encode())

    return tell
