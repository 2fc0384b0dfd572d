"""What an earlier server left, and who it is."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from homeport.contract.container import Container, ContainerSpec, State
from homeport.node.containers import records

#: An init, a runner and a daemon: a session each, and the daemon's name is nobody's business.
FAMILY = """
import os, sys, time
def begin(leads):
    read, write = os.pipe()
    if pid := os.fork():
        return int(os.read(read, 20))
    if leads: os.setsid()
    os.write(write, str(os.getpid()).encode())
runner = begin(False)
if runner is None: time.sleep(60); os._exit(0)
if begin(True) is None:
    daemon = begin(True)
    if daemon is None: time.sleep(60)
    os._exit(0)
print(runner, flush=True)
time.sleep(60)
"""


@pytest.fixture
def left(tmp_path):
    """Leave a container behind: its directory, and its init's and its runner's pid."""
    processes = []

    def left(state: State = State.READY) -> tuple[Path, subprocess.Popen, int]:
        directory = tmp_path / "ta-1"
        (directory / "tmp").mkdir(parents=True)
        told = dict.fromkeys(("app", "function", "revision", "pool", "module", "qualname"), "x")
        spec = ContainerSpec(id="ta-1", source="/", tmp_dir=str(directory / "tmp"), **told)
        process = subprocess.Popen(
            [sys.executable, "-c", FAMILY],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={"TMPDIR": spec.tmp_dir},
        )
        processes.append(process)
        runner = int(process.stdout.readline())
        container = Container(spec=spec, state=state, pid=runner)
        records.write(directory, container, process.pid)
        return directory, process, runner

    yield left
    for process in processes:
        for each in (*psutil.process_iter(),):
            if of(each.pid, tmp_path):
                each.kill()
        process.kill()
        process.wait()
        process.stdout.close()


def of(pid: int, root: Path) -> bool:
    """Whether a process has a temporary directory below this one."""
    try:
        return f"TMPDIR={root}".encode() in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False


def family(root: Path) -> list[int]:
    """The processes that a container has left, those that have ended not counted."""
    return [
        p.pid
        for p in psutil.process_iter(["status"])
        if of(p.pid, root) and p.info["status"] != psutil.STATUS_ZOMBIE
    ]


def settled(root: Path, count: int) -> None:
    """Return once so many of them are there."""
    deadline = time.monotonic() + 10
    while count != len(family(root)):
        assert time.monotonic() < deadline, family(root)
        time.sleep(0.01)


def test_a_ready_container_is_found_again(left, tmp_path):
    directory, process, runner = left()
    (found,) = records.sweep(tmp_path)

    assert (process.pid, runner) == (found.leader, found.container.pid)
    assert directory.exists()
    settled(tmp_path, 3)


@pytest.mark.parametrize("change", ["boot", "ticks"])
def test_a_number_of_another_boot_or_process_is_nobody(left, tmp_path, change):
    directory, _, _ = left()
    known = json.loads((directory / "record").read_text())
    known[change] = "another" if change == "boot" else known["ticks"] + 1
    known["init"] = os.getpid()  # who would end with it, if it were believed
    (directory / "record").write_text(json.dumps(known))

    assert [] == list(records.sweep(tmp_path))
    assert not directory.exists()


def test_one_that_was_not_ready_is_ended_with_its_daemons(left, tmp_path):
    left(State.STARTING)

    assert [] == list(records.sweep(tmp_path))
    assert [] == family(tmp_path)


def test_daemons_are_ended_even_if_init_was_killed_with_the_server(left, tmp_path):
    _, process, runner = left()
    os.kill(runner, signal.SIGKILL)
    process.kill()
    process.wait()
    settled(tmp_path, 1)

    assert [] == list(records.sweep(tmp_path))
    assert [] == family(tmp_path)


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"boot": 1, "init": "x", "ticks": -1}'])
def test_a_record_that_cannot_be_read_stops_nothing(tmp_path, text):
    (tmp_path / "ta-1").mkdir()
    (tmp_path / "ta-1" / "record").write_text(text)

    assert [] == list(records.sweep(tmp_path))
    assert [] == list(tmp_path.iterdir())


def test_a_death_is_put_down_to_memory_only_where_memory_was_short():
    assert "by itself or by somebody on this machine" in records.in_words(-9)
    assert "ran out of memory" in records.in_words(-9, memory_was_short=True)
    assert "was killed by SIGSEGV" == records.in_words(-11, memory_was_short=True)
    assert "was killed by signal 200" == records.in_words(-200)
    assert records.memory_shortages() >= -1
