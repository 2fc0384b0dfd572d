"""Containers that an earlier server has left are found again or ended."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from homeport.contract.container import Container, State
from homeport.contract.manifest import WebKind
from homeport.contract.traffic import PoolKey
from homeport.node.containers import records
from tests.orders import launch
from tests.waiting import wait_for

#: An init, a runner and a daemon, each in its own session.
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
def left(tmp_path, monkeypatch):
    """Leave a container behind; return its directory, its init and its runner's pid."""
    processes = []
    monkeypatch.setattr(records, "PATIENCE_S", 0.1)  # this init never ends by itself

    def left(state: State = State.READY) -> tuple[Path, subprocess.Popen, int]:
        directory = tmp_path / "ta-1"
        (directory / "tmp").mkdir(parents=True)
        launched = launch(tmp_dir=str(directory / "tmp"), cgroup="/sys/fs/cgroup/x", cores=(0,))
        process = subprocess.Popen(
            [sys.executable, "-c", FAMILY],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={"TMPDIR": launched.tmp_dir},
        )
        processes.append(process)
        runner = int(process.stdout.readline())
        container = Container(order=launched.order, state=state, pid=runner)
        records.write(directory, container, launched, process.pid)
        return directory, process, runner

    yield left
    for process in processes:
        for relative in (*psutil.process_iter(),):
            if of(relative.pid, tmp_path):
                relative.kill()
        process.kill()
        process.wait()
        process.stdout.close()


def of(pid: int, root: Path) -> bool:
    """Return whether a process has its temporary directory below `root`."""
    try:
        return f"TMPDIR={root}".encode() in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False


def family(root: Path) -> list[int]:
    """Return the running processes that a container has left."""
    return [
        p.pid
        for p in psutil.process_iter(["status"])
        if of(p.pid, root) and p.info["status"] != psutil.STATUS_ZOMBIE
    ]


def settled(root: Path, count: int) -> None:
    """Return when `count` of them run."""
    wait_for(lambda: count == len(family(root)), f"{count} processes")


def test_a_ready_container_is_found_again(left, tmp_path):
    directory, process, runner = left()
    (record,) = records.sweep(tmp_path)

    assert (process.pid, runner) == (record.leader, record.container.pid)
    assert directory.exists()
    settled(tmp_path, 3)


def test_a_container_is_found_with_all_that_its_end_needs(left, tmp_path):
    left()
    (record,) = records.sweep(tmp_path)

    assert record.launch == launch(
        tmp_dir=str(tmp_path / "ta-1" / "tmp"), cgroup="/sys/fs/cgroup/x", cores=(0,)
    )
    assert record.launch.order == record.container.order


#: A record of an older version: one object for the order, the launch and the function.
SPEC = {
    "id": "ta-1",
    "app": "shop",
    "function": "Model.*",
    "revision": "rv-9",
    "pool": "shop/Model.%2A/rv-9?size=2",
    "module": "shop",
    "qualname": "Model",
    "is_class": True,
    "web": [{"tag": "Model.web", "attribute": "web", "kind": "asgi_app"}],
    "parameters": {"size": 2},
    "image": {"steps": [{"name": "pip_install", "args": {"packages": ["x"]}, "where": "a.py:1"}]},
    "source": "/trees/rv-9",
    "tmp_dir": "/run/ta-1/tmp",
    "memory_mib": [64, 200],
    "timeout_s": 9.0,
    "urls": {"Model.web": "https://x.localhost"},
    "devices": ["GPU-1"],
    "cgroup": "/sys/fs/cgroup/x",
    "cores": [1],
    "exit_grace_s": 30.0,
}


def test_a_record_of_an_older_version_is_read(left, tmp_path):
    directory, process, runner = left()
    stored = json.loads((directory / "record").read_text())
    del stored["launch"], stored["container"]["order"]
    stored["container"]["spec"] = SPEC
    (directory / "record").write_text(json.dumps(stored))
    (record,) = records.sweep(tmp_path)
    order = record.container.order

    assert (process.pid, runner) == (record.leader, record.container.pid)
    assert PoolKey("shop", "Model.*", "rv-9", "size=2") == order.pool
    assert {"size": 2} == order.parameters
    assert ("Model.*", "Model", True, 9.0, (64, 200)) == (
        *(order.function.name, order.function.qualname, order.function.is_class),
        *(order.function.timeout_s, order.function.memory_mib),
    )
    assert WebKind.ASGI is order.function.web[0].kind
    assert () == order.function.parameters
    assert "pip_install" == order.function.image.steps[0].name
    assert (("GPU-1",), "/trees/rv-9") == (order.devices, order.source)
    assert ("/run/ta-1/tmp", "/sys/fs/cgroup/x", (1,)) == (
        *(record.launch.tmp_dir, record.launch.cgroup, record.launch.cores),
    )


def test_a_container_whose_record_this_version_cannot_read_is_ended(left, tmp_path):
    directory, _, _ = left()
    stored = json.loads((directory / "record").read_text())
    stored["container"]["order"] = {"from": "the future"}
    (directory / "record").write_text(json.dumps(stored))

    assert [] == list(records.sweep(tmp_path))
    assert not directory.exists()
    assert [] == family(tmp_path)


@pytest.mark.parametrize("change", ["boot", "ticks"])
def test_a_number_of_another_boot_or_process_is_nobody(left, tmp_path, change):
    directory, _, _ = left()
    stored = json.loads((directory / "record").read_text())
    stored[change] = "another" if change == "boot" else stored["ticks"] + 1
    stored["init"] = os.getpid()  # this process would be killed if the record were trusted
    (directory / "record").write_text(json.dumps(stored))

    assert [] == list(records.sweep(tmp_path))
    assert not directory.exists()


def test_a_container_that_was_not_ready_is_ended_with_its_daemons(left, tmp_path):
    left(State.STARTING)
    before = os.listdir("/proc/self/fd")

    assert [] == list(records.sweep(tmp_path))
    assert [] == family(tmp_path)
    assert before == os.listdir("/proc/self/fd"), "a descriptor is left open"


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
    assert "by itself or by another program on this machine" in records.in_words(-9)
    assert "ran out of memory" in records.in_words(-9, memory_was_short=True)
    assert "was killed by SIGSEGV" == records.in_words(-11, memory_was_short=True)
    assert "was killed by signal 200" == records.in_words(-200)
    assert records.memory_shortages() >= -1


@pytest.mark.parametrize(
    ("code", "was_short", "text"),
    [
        (None, False, "ended"),
        (0, False, "ended with exit code 0"),
        (3, True, "ended with exit code 3"),
        (-signal.SIGSEGV, False, "was killed by SIGSEGV"),
        (-99, False, "was killed by signal 99"),
        (-signal.SIGKILL, False, "by itself or by another program on this machine"),
        (-signal.SIGKILL, True, "the machine ran out of memory meanwhile"),
    ],
)
def test_an_end_that_nobody_asked_for_is_told_in_words(code, was_short, text):
    assert records.in_words(code, was_short).endswith(text)


def test_the_kernels_count_of_processes_that_it_killed_for_memory_is_read():
    fields = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    before = int(fields.get("oom_kill", -1))

    assert before <= records.memory_shortages()
    assert (before >= 0) is (records.memory_shortages() >= 0)
