"""A container whose start breaks off. `tests/node/test_agent.py` has its life otherwise."""

import dataclasses
import threading

import pytest

from homeport import removing
from homeport.contract.container import Launch, State
from homeport.node.cells import networks
from homeport.node.containers import container as containers
from homeport.node.containers import door as doors
from homeport.node.containers import output as outputs
from homeport.node.containers import records
from tests import processes
from tests.waiting import until


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(24, "Too many open files"), "cannot start a process: Too many open files"),
        (KeyError("x"), "cannot be started: KeyError, a bug of homeport; its log says more"),
    ],
)
async def test_a_start_that_breaks_off_halfway_leaves_no_process(
    start, monkeypatch, settings, error, reason
):
    """As where the node has no descriptor left."""
    pids = []

    def write(_directory, container, _launch, leader):
        pids.extend((container.pid, leader))
        raise error

    monkeypatch.setattr(records, "write", write)
    monkeypatch.setattr(containers, "CLOSE_GRACE_S", 0.0)
    agent, watched = await start("time.sleep(60)")
    failed = await watched.until(State.FAILED)
    await agent.close()

    assert reason == failed.reason
    assert 2 == len(pids)
    assert [] == [pid for pid in pids if pid and processes.lives(pid)]
    assert not (settings.run_dir / "containers").exists()


@pytest.mark.parametrize(
    ("part", "name"),
    [(outputs.Outputs, "finish"), (networks, "end"), (doors, "remove")],
)
async def test_a_container_whose_end_fails_is_reported_as_gone_and_runs_no_more(
    start, monkeypatch, settings, part, name
):
    """As where no thread can be started."""

    def fail(*_args):
        raise RuntimeError("can't start new thread")

    agent, watched = await start("say(kind='ready')\ntime.sleep(60)")
    ready = await watched.until(State.READY)
    monkeypatch.setattr(part, name, fail)
    await agent.stop("ta-1", grace_s=0)
    await watched.until(State.GONE)
    monkeypatch.undo()
    await until(lambda: not processes.lives(ready.pid), "the end")
    await agent.close()

    assert () == (await agent.list()).containers
    assert not (settings.run_dir / "containers").exists()


async def test_a_container_that_says_again_and_again_that_modules_differ_fills_no_log(start):
    many = "[say(kind='unlike', reason=f'reason {n}', modules=[f'm{n}']) for n in range(200)]"
    _, watched = await start(f"{many}\nsay(kind='ready')\ntime.sleep(60)")
    await watched.until(State.READY)

    lines = [line for line in watched.lines if "preloaded modules differ" in line.text]
    assert containers.MOST_EVENTS["unlike"] == len(lines)


async def test_a_node_goes_on_while_the_many_files_of_a_container_are_deleted(
    start, monkeypatch, settings
):
    may_end, usual = threading.Event(), removing.discard

    def slow(path):
        assert may_end.wait(30)
        usual(path)

    agent, watched = await start("say(kind='ready')\ntime.sleep(60)")
    await watched.until(State.READY)
    monkeypatch.setattr(removing, "discard", slow)
    await agent.stop("ta-1", grace_s=0)
    await watched.until(State.GONE)
    files_left = [path.name for path in (settings.run_dir / "containers").iterdir()]
    may_end.set()
    await agent.close()

    assert ["ta-1"] == files_left
    assert not (settings.run_dir / "containers").exists()


async def test_the_door_of_a_container_that_was_taken_over_goes_with_it(start, tmp_path):
    agent, watched = await start("say(kind='ready')\ntime.sleep(60)")
    await watched.until(State.READY)
    await agent.stop("ta-1", grace_s=0)
    gone = await watched.until(State.GONE)
    listener, address = doors.make_in(tmp_path, "ta-1")
    listener.close()
    earlier = dataclasses.replace(gone, state=State.READY, address=address)
    life = agent._life(earlier, Launch(order=gone.order))
    agent._begin("ta-1", life, life.go_on(gone.pid))
    await agent._tasks["ta-1"]

    assert not (tmp_path / "ta-1").exists()
