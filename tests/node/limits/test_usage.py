"""What containers use, measured with real processes."""

import os
import signal
import subprocess
import sys

import pytest

from homeport.contract.container import Launch
from homeport.node.limits import usage
from homeport.node.limits.usage import Meter, Process, descendants, of_cgroup
from tests.orders import order

MIB = 1024 * 1024
#: Works half a second in a child that ends, and in itself; holds 50 MiB, which a second child shares.
PROGRAM = """
import os, sys, time
held = bytearray(50 * 1024 * 1024)
def work(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
if (child := os.fork()) == 0:
    work(0.3)
    os._exit(0)
os.waitpid(child, 0)
if os.fork() == 0:
    time.sleep(60)
work(0.3)
print("ready", flush=True)
time.sleep(60)
"""


@pytest.fixture
def program():
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    assert b"ready\n" == process.stdout.readline()
    yield process
    if process.poll() is None:  # else its id may be another's by now
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()


def launch(name: str = "ta-1", **changes) -> Launch:
    return Launch(order=order(name), **changes)


def test_a_container_is_all_its_processes_and_those_that_have_ended(program):
    usage = Meter().look([(program.pid, launch())])["ta-1"]

    assert 0.6 <= usage.cpu_s < 5
    assert 50 <= usage.memory_mib < 90  # the child shares it
    assert 0 == usage.gpu_memory_mib


def test_a_container_whose_process_has_ended_is_left_out(program):
    program.kill()
    program.wait()

    assert {} == Meter().look([(program.pid, launch())])


def test_shared_memory_is_read_less_often_the_longer_it_has_not_changed(program, monkeypatch):
    now, read = 0.0, []
    meter = Meter(clock=lambda: now)
    monkeypatch.setattr(usage.watchdog, "share_mib", lambda pid: read.append(now) or 7.0)
    there = usage.processes()
    monkeypatch.setattr(usage, "processes", lambda: there)
    for minute in range(60):
        now = 60.0 * minute
        meter.look([(program.pid, launch())])

    assert [0, 1, 3, 7, 15, 31, 47] == [at / 60.0 for at in read[::2]]


def test_shared_memory_is_read_again_after_a_change_or_a_minute(program, monkeypatch):
    now, read = 0.0, []
    meter = Meter(clock=lambda: now)
    monkeypatch.setattr(usage.watchdog, "share_mib", lambda pid: read.append(pid) or 7.0)
    for now in (0.0, 1.0, 59.0):
        assert 14 == meter.look([(program.pid, launch())])["ta-1"].memory_mib
    assert 2 == len(read)
    now = 60.0
    meter.look([(program.pid, launch())])
    assert 4 == len(read)
    there = usage.processes()
    larger = {
        pid: Process(process.parent, process.cpu_s, process.started, process.resident_mib * 1.03)
        for pid, process in there.items()
    }
    monkeypatch.setattr(usage, "processes", lambda: larger)
    meter.look([(program.pid, launch())])
    assert 6 == len(read)
    monkeypatch.setattr(usage, "processes", dict)
    meter.look([(program.pid, launch())])

    assert {} == meter._shares


def test_a_look_reads_few_shares_and_estimates_the_others(monkeypatch):
    """Like 50 containers right after a deploy, each an init and a runner."""
    read = []
    shares_mib = {pid: 5.0 if pid % 2 else 15.0 for pid in range(1, 101)}
    there = {
        pid: Process(0 if pid % 2 else pid - 1, 0.0, "1", 51.0 if pid % 2 else 54.0)
        for pid in shares_mib
    }
    monkeypatch.setattr(usage, "processes", lambda: there)
    monkeypatch.setattr(
        usage.watchdog, "share_mib", lambda pid: read.append(pid) or shares_mib[pid]
    )
    containers = [(pid, launch(f"ta-{pid}")) for pid in range(1, 101, 2)]
    meter = Meter(clock=lambda: 0.0)

    assert {20} == {used.memory_mib for used in meter.look(containers).values()}
    assert usage.MOST_READ == len(read)
    for look in range(2, 11):
        meter.look(containers)
        assert look * usage.MOST_READ == len(set(read)) == len(read)
    meter.look(containers)
    assert 100 == len(read)

    # One process becomes much larger: it is read at once, and the others are not.
    shares_mib[2] = 65.0
    there = there | {2: Process(1, 0.0, "1", 104.0)}
    assert 70 == meter.look(containers)["ta-1"].memory_mib
    assert [2] == read[100:]


def test_a_process_that_grows_counts_with_its_growth_until_it_is_read(monkeypatch):
    there = {pid: Process(0, 0.0, "1", 50.0) for pid in range(1, 31)}
    monkeypatch.setattr(usage, "processes", lambda: there)
    monkeypatch.setattr(usage.watchdog, "share_mib", lambda _pid: 10.0)
    containers = [(pid, launch(f"ta-{pid}")) for pid in there]
    meter = Meter(clock=lambda: 0.0)
    for _ in range(3):
        meter.look(containers)
    there = {pid: Process(0, 0.0, "1", 58.0) for pid in there}
    used = meter.look(containers)

    assert 18 == used["ta-30"].memory_mib
    assert 10 == used["ta-1"].memory_mib


def test_the_memory_on_accelerators_is_that_of_the_containers_own(program):
    questions = []

    def used(devices):
        questions.append(set(devices))
        return {"GPU-1": 100, "GPU-2": 20}

    meter = Meter(used)
    two = Launch(order=order("ta-2", devices=("GPU-1", "GPU-2")))
    usages = meter.look([(program.pid, launch()), (program.pid, two)])
    assert {"ta-1": 0, "ta-2": 120} == {
        name: usage.gpu_memory_mib for name, usage in usages.items()
    }
    meter.look([(program.pid, launch())])

    assert [{"GPU-1", "GPU-2"}] == questions


def test_a_cgroup_has_the_kernels_own_count(tmp_path):
    assert of_cgroup(tmp_path) is None
    (tmp_path / "cpu.stat").write_text("usage_usec 2500000\nuser_usec 1\n")
    (tmp_path / "memory.current").write_text(f"{300 * MIB}\n")
    (tmp_path / "memory.stat").write_text(f"anon 5\ninactive_file {100 * MIB}\n")
    usage = Meter().look([(0, launch(cgroup=str(tmp_path)))])["ta-1"]

    assert (2.5, 200) == (usage.cpu_s, usage.memory_mib)


def test_processes_are_found_below_their_leader():
    there = {
        pid: Process(parent, 0.0, "", 0.0)
        for pid, parent in ((1, 0), (10, 1), (11, 10), (12, 11), (20, 1), (21, 20))
    }

    assert {10: {10, 11, 12}, 20: {20, 21}, 30: set()} == descendants(there, [10, 20, 30])
