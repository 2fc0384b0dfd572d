"""The process that becomes HAProxy: it ends with its server, and starts as a shell would have started it."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import psutil

from homeport.ingress import launch
from tests import processes
from tests.waiting import wait_for

#: Starts a program that never ends by itself, prints its pid, and kills itself when it is told to.
SERVER = f"""
import os, subprocess, sys
parent = os.getpid() if sys.argv[1] == "tied" else 0
words = [sys.executable, "-I", "-S", {launch.__file__!r}, str(parent), "/usr/bin/tail", "-f", "/dev/null"]
print(subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL).pid, flush=True)
sys.stdin.readline()
os.kill(os.getpid(), 9)
"""


def launched(parent: int, *words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-I", "-S", launch.__file__, str(parent), *words],
        capture_output=True,
        text=True,
        check=False,
    )


@contextlib.contextmanager
def left(how: str) -> Iterator[psutil.Process]:
    """Yield the program of a server that is killed while the program runs."""
    words = [sys.executable, "-c", SERVER, how]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        program = psutil.Process(int(server.stdout.readline()))
        try:
            wait_for(lambda: program.name() == "tail", "the program")
            server.communicate("\n")
            yield program
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):
                program.kill()


def test_a_program_ends_when_its_server_is_killed():
    with left("tied") as program:
        assert [] == processes.living(program.pid)


def test_a_program_that_is_not_tied_outlives_its_server():
    with left("alone") as program:
        assert processes.lives(program)


def test_a_program_whose_server_has_ended_meanwhile_does_not_start():
    done = launched(os.getppid(), "/bin/echo", "started")

    assert (1, "") == (done.returncode, done.stdout)
    assert done.stderr == "homeport has ended meanwhile\n"


def test_a_program_that_is_missing_is_named_without_a_traceback(tmp_path):
    done = launched(0, str(tmp_path / "haproxy"))

    assert done.returncode == 1
    assert done.stderr == f"{tmp_path / 'haproxy'}: No such file or directory\n"


def test_a_program_ignores_no_signal_because_python_did():
    done = launched(0, "/bin/grep", "SigIgn", "/proc/self/status")
    ignored = int(done.stdout.split()[1], 16)

    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        assert not ignored & 1 << number - 1, number
