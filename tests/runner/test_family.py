"""The container's other processes, as its runner sees them: below an init that adopts orphans."""

import subprocess
import sys

import psutil
import pytest

from homeport.runner import init
from tests import processes

#: As in a container: init adopts orphans and reaps them, and its child is the runner. The script has begun a shell
#: with a program of its own, and a program whose parent has ended.
CONTAINER = """
import ctypes, os, signal, subprocess, sys
libc = ctypes.CDLL(None)
libc.prctl(36, 1)  # PR_SET_CHILD_SUBREAPER
libc.prctl(15, b"{name}")  # PR_SET_NAME
if os.fork():
    while True:
        try:
            os.wait()
        except ChildProcessError:
            sys.exit(0)
from homeport.runner import family
shell = subprocess.Popen(["sh", "-c", "sleep 300 & echo $!; wait"], stdout=subprocess.PIPE, text=True)
orphan = subprocess.run(["sh", "-c", "sleep 300 >/dev/null & echo $!"], stdout=subprocess.PIPE, text=True)
begun = sorted([shell.pid, int(shell.stdout.readline()), int(orphan.stdout)])
print(*begun, flush=True)
print(begun == family.others(), flush=True)
family.{what}
print(*family.others(), flush=True)
"""


@pytest.fixture
def container():
    begun = []

    def container(what: str, name: str = init.NAME) -> list[str]:
        script = CONTAINER.replace("{what}", what).replace("{name}", name)
        words = [sys.executable, "-c", script]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        begun.append(process)
        return [process.stdout.readline().strip() for _ in range(3)]

    yield container
    for process in begun:
        with process:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.wait(60)


def test_all_of_a_container_but_its_init_and_its_runner_ends(container):
    pids, complete, left = container("end()")

    assert 3 == len(pids.split())
    assert ("True", "") == (complete, left)
    assert [] == [pid for pid in map(int, pids.split()) if processes.lives(pid)]


def test_a_process_that_ignores_a_signal_is_still_there(container):
    pids, _, left = container("send(signal.SIGCONT)")

    assert pids == left


def test_a_runner_whose_init_has_ended_signals_no_process_of_the_machine(container):
    pids, complete, left = container("send(signal.SIGKILL)", name="systemd")

    assert ("False", "") == (complete, left)
    assert all(map(processes.lives, map(int, pids.split())))
