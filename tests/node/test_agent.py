"""The node agent with runners of the tests' own: real processes, real ends."""

import asyncio
import contextlib
import json
import os

import psutil
import pytest

from homeport.contract.container import Container, LogLine, State
from homeport.contract.image import Image, Step
from homeport.contract.listing import Change, Mark
from homeport.node.agent import Agent
from homeport.node.containers import pulses
from tests import processes
from tests.orders import order
from tests.waiting import until

REPORT = """
import json, os, signal, sys, time
from homeport.runner import init
given = init.separate()
report = given.report
launch = json.loads(sys.stdin.readline())
order = launch["order"]
def say(**event):
    os.write(report, json.dumps(event).encode() + b"\\n")
def heard():
    return json.loads(os.read(report, 65536))
"""


class Watched:
    """What an agent has told."""

    def __init__(self) -> None:
        self.states: list[State] = []
        self.marks: list[Mark] = []
        self.containers: list[Container] = []
        self.lines: list[LogLine] = []
        self._news = asyncio.Event()

    def changed(self, change: Change) -> None:
        container = change.container
        self.marks.append(change.mark)
        self.states.append(container.state)
        self.containers.append(container)
        self._news.set()

    def said(self, line: LogLine) -> None:
        self.lines.append(line)
        self._news.set()

    async def until(self, *states: State) -> Container:
        """The container, once it is in one of these states."""
        async with asyncio.timeout(60):
            while not self.states or self.states[-1] not in states:
                self._news.clear()
                await self._news.wait()
        return self.containers[-1]

    async def ready(self, container: str) -> None:
        """Return once this container is ready; others may have been so before."""
        async with asyncio.timeout(60):
            while State.READY not in self.of(container):
                self._news.clear()
                await self._news.wait()

    def of(self, container: str) -> list[State]:
        """The states of one container, in their order."""
        return [each.state for each in self.containers if each.id == container]

    async def holds(self, held: int) -> Container:
        """The container, once it has told that so many of its slots are held."""
        async with asyncio.timeout(60):
            while not self.containers or self.containers[-1].held != held:
                self._news.clear()
                await self._news.wait()
        return self.containers[-1]

    async def line(self, text: str) -> LogLine:
        """The line that holds this text."""
        async with asyncio.timeout(60):
            while True:
                for line in self.lines:
                    if text in line.text:
                        return line
                self._news.clear()
                await self._news.wait()


READY = 'say(kind="ready")\ntime.sleep(60)\n'


async def test_a_container_is_ready_and_gone_and_leaves_nothing(start, settings):
    agent, watched = await start(READY)
    container = await watched.until(State.READY)
    assert container.address.startswith("abstract:homeport-ta-1-")
    await agent.stop("ta-1")
    gone = await watched.until(State.GONE)

    assert [State.STARTING, State.READY, State.DRAINING, State.GONE] == watched.states
    assert not processes.lives(gone.pid)
    assert () == (await agent.list()).containers
    await until(lambda: not list((settings.run_dir / "containers").iterdir()), "no files")


async def test_nothing_of_the_server_gets_in_but_what_was_meant_to(start, monkeypatch):
    monkeypatch.setenv("AWS_SECRET", "outer")
    monkeypatch.setenv("MODAL_TASK_ID", "outer")
    left_open = os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(left_open, True)
    image = Image(steps=(Step(name="env", args={"vars": {"A": "image", "B": "image"}}),))
    _, watched = await start(
        """
        def is_open(fd):
            try:
                return bool(os.fstat(fd))
            except OSError:  # the one that listdir itself opened
                return False
        fds = [int(fd) for fd in os.listdir("/proc/self/fd") if is_open(int(fd))]
        print(json.dumps([sorted(fds), dict(os.environ), os.getsid(0) == os.getppid()]), flush=True)
        time.sleep(60)
        """,
        environ={"B": "secret", "MODAL_REGION": "forged"},
        image=image,
    )
    fds, environ, its_init_leads_the_session = json.loads((await watched.line("[[")).text)
    os.close(left_open)

    assert its_init_leads_the_session
    assert "AWS_SECRET" not in environ
    assert ("image", "secret", "local", "ta-1", "1") == tuple(
        environ[k] for k in ("A", "B", "MODAL_REGION", "MODAL_TASK_ID", "MODAL_IS_REMOTE")
    )
    assert 6 == len(fds)  # standard input, output and errors; report, door and pulse
    assert not [name for name in environ if name.endswith("_FD")]


async def test_a_failed_start_says_why(start):
    _, watched = await start('say(kind="failed", reason="no fuel", traceback="line 1")')
    container = await watched.until(State.FAILED)

    assert ("no fuel", "line 1") == (container.reason, container.traceback)


async def test_a_start_that_takes_too_long_is_ended(start):
    _, watched = await start(
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(60)", startup_timeout_s=0.3
    )
    container = await watched.until(State.FAILED)

    assert "did not become ready within 0.3 s" == container.reason
    assert not processes.lives(container.pid)


async def test_starts_that_hang_hold_up_no_other(start, tmp_path):
    agent, watched = await start(
        "time.sleep(60) if launch['order']['id'] != 'ta-quick' else None\n" + READY
    )
    for number in range(12):
        await agent.start(order(f"ta-hangs-{number}", source=str(tmp_path)), {})
    await agent.start(order("ta-quick", source=str(tmp_path)), {})
    container = await watched.until(State.READY)

    assert "ta-quick" == container.id


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("sys.exit('last words')", "ended with exit code 1"),
        (
            "os.kill(os.getpid(), 9)",
            "was killed by SIGKILL, by itself or by another program on this machine",
        ),
    ],
)
async def test_a_runner_that_ends_without_a_word_is_a_failed_start(start, script, reason):
    _, watched = await start(script)
    container = await watched.until(State.FAILED)

    assert reason == container.reason


async def test_a_container_that_dies_while_it_serves_is_gone_with_its_reason(start, tmp_path):
    go = tmp_path / "go"
    wait = f"while not os.path.exists({str(go)!r}): time.sleep(0.01)"
    _, watched = await start(f'say(kind="ready")\n{wait}\nos.kill(os.getpid(), 11)')
    await watched.until(State.READY)
    go.touch()
    container = await watched.until(State.GONE)

    assert [State.STARTING, State.READY, State.DRAINING, State.GONE] == watched.states
    assert "was killed by SIGSEGV" == container.reason


@pytest.mark.parametrize(
    "once_or_for_ever",
    [
        "os.kill(os.getppid(), signal.SIGSTOP)",
        """
init = os.getppid()
if not os.fork():
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        os.kill(init, signal.SIGSTOP)
""",
    ],
)
async def test_a_container_whose_init_was_stopped_ends_when_its_grace_is_over(
    start, once_or_for_ever, monkeypatch
):
    agent, watched = await start(once_or_for_ever + "\n" + READY)
    pid = (await watched.until(State.READY)).pid
    init = psutil.Process(pid).parent()
    session = [init, *init.children(recursive=True)]
    monkeypatch.setattr("homeport.node.containers.process.KILL_S", 600.0)  # what init gets to end
    await agent.stop("ta-1", grace_s=0.2)
    await watched.until(State.GONE)

    assert not any(processes.lives(process) for process in session)


async def test_a_container_that_ignores_sigterm_is_killed_with_all_its_children(start):
    agent, watched = await start(
        """
        import subprocess
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        own = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"
        children = [
            subprocess.Popen([sys.executable, "-c", own]),
            subprocess.Popen([sys.executable, "-c", own], start_new_session=True),
        ]
        print("children", *(child.pid for child in children), flush=True)
        say(kind="ready")
        time.sleep(60)
        """
    )
    await watched.until(State.READY)
    children = [int(pid) for pid in (await watched.line("children")).text.split()[1:]]
    await agent.stop("ta-1", grace_s=0.1)
    await watched.until(State.GONE)

    assert [] == processes.living(*children)


@pytest.mark.parametrize("how", ["start_new_session=True", "start_new_session=False"])
async def test_processes_of_a_container_are_found_even_if_its_init_is_killed(start, how):
    _, watched = await start(
        f"""
        import subprocess
        child = subprocess.Popen(["sleep", "60"], {how})
        print("child", child.pid, flush=True)
        say(kind="ready")
        time.sleep(60)
        """
    )
    container = await watched.until(State.READY)
    child = int((await watched.line("child")).text.split()[1])
    psutil.Process(container.pid).parent().kill()
    await watched.until(State.GONE)
    alive = processes.living(child)

    assert [] == alive


async def test_the_output_of_a_container_is_lines_and_the_last_words_are_one_too(start):
    _, watched = await start(
        """
        print("one\\r\\ntwo", flush=True)
        os.write(2, b"bad \\xff byte\\n" + b"x" * 20000 + b"\\nlast words")
        """
    )
    await watched.until(State.FAILED)
    texts = [line.text for line in watched.lines]

    assert ["one", "two", "bad \N{REPLACEMENT CHARACTER} byte"] == texts[:3]
    assert 20000 == sum(len(text) for text in texts[3:-1])
    assert "last words" == texts[-1]


@pytest.fixture
async def crash(start, settings):
    """Start a container, and forget its agent as a killed server does."""
    fresh, left = [], []

    async def crash(script: str, state: State | None) -> tuple[int, Agent, Watched]:
        agent, watched = await start(script, tied=False)
        if state is not None:
            await watched.until(state)
        else:
            await watched.line("working")
        run = agent._lives.pop("ta-1")
        run._clear_up = lambda: None
        task = agent._tasks["ta-1"]
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        agent._shared.outputs.close()
        left.append(run)
        after = Watched()
        fresh.append(Agent(settings))
        fresh[-1].watch(after.changed, after.said)
        await fresh[-1].open()
        return run.container.pid, fresh[-1], after

    yield crash
    for agent in fresh:
        await agent.close()
    for run in left:
        run.process._popen.wait(60)
        run.process.close()


async def test_a_ready_container_of_an_earlier_server_goes_on(crash):
    pid, agent, watched = await crash(
        READY.replace("time.sleep(60)", "")
        + "for n in range(100):\n    os.write(1, b'%d\\n' % n)\n    time.sleep(0.1)\n",
        State.READY,
    )
    (container,) = (await agent.list()).containers
    seen = int((await watched.line("")).text)
    await agent.stop("ta-1", grace_s=1)
    await watched.until(State.GONE)

    assert (pid, State.READY) == (container.pid, container.state)
    assert [*range(seen, seen + len(watched.lines))] == [int(line.text) for line in watched.lines]
    assert not processes.lives(pid)


async def test_a_container_of_an_earlier_server_says_by_its_pulse_what_it_holds(crash, tmp_path):
    go_on = tmp_path / "go on"
    _, agent, _ = await crash(
        f"""
from pathlib import Path
from homeport.contract.pulse import Pulse
pulse = Pulse(given.pulse)
pulse.held(1)
say(kind="ready")
while not Path({str(go_on)!r}).exists():
    time.sleep(0.01)
pulse.held(0)
time.sleep(60)
""",
        State.READY,
    )
    (container,) = (await agent.list()).containers
    go_on.touch()

    async def given_back() -> bool:
        (container,) = (await agent.list()).containers
        return not container.held

    await until(given_back, "the slot to be given back")

    assert 1 == container.held


@pytest.mark.parametrize("error", [OSError(24, "Too many open files"), KeyError("held")])
async def test_a_container_that_cannot_be_taken_over_is_ended_and_reported(
    crash, monkeypatch, error
):
    def fail(_leader):
        raise error

    monkeypatch.setattr(pulses, "of_init", fail)
    pid, agent, watched = await crash(READY, State.READY)
    await watched.until(State.GONE)
    await until(lambda: not processes.lives(pid), "the end")

    assert () == (await agent.list()).containers


async def test_a_container_that_was_not_ready_is_ended(crash):
    pid, agent, _ = await crash("print('working', flush=True)\ntime.sleep(60)", None)

    assert () == (await agent.list()).containers
    assert not processes.lives(pid)
