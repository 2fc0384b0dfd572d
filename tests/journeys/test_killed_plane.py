"""A control plane that is killed, by SIGKILL, while the agents of its machines go on."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests import processes
from tests.node.test_agent import REPORT
from tests.waiting import PATIENCE_S, until

RUNNER = """
say(kind="ready")
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
time.sleep(600)
"""
ROOT = Path(__file__).parents[2]


class Plane:
    """A control plane, and what it says."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.token, self.port = "", 0
        self.containers: list[tuple[str, str, str]] = []
        self.seen: set[str] = set()  # every container that it has had

    async def read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            said = json.loads(line)
            self.token, self.port = said.get("token", self.token), said.get("port", self.port)
            self.containers = [tuple(each) for each in said.get("containers", self.containers)]
            self.seen |= {each[0] for each in self.containers}

    def ready(self, count: int) -> dict[str, str]:
        """Return the node of each container, if so many are ready."""
        ready = {name: node for name, node, state in self.containers if state == "ready"}
        return ready if len(ready) == count == len(self.containers) else {}


@asynccontextmanager
async def plane(home: Path, arrive_s: float = PATIENCE_S) -> AsyncIterator[Plane]:
    """Run a control plane, and kill it."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.journeys.bare_plane", str(home), str(arrive_s)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    made = Plane(process)
    reading = asyncio.create_task(made.read())
    try:
        await until(lambda: made.port, "the control plane")
        yield made
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await reading


@pytest.fixture
async def home(tmp_path):
    tree = tmp_path / "home" / "revisions" / "rv-1"
    tree.mkdir(parents=True)
    (tree / "m.py").write_text("")
    (tmp_path / "runner.py").write_text(REPORT + RUNNER)
    yield tmp_path / "home"
    await asyncio.to_thread(processes.end_of, tmp_path)


@pytest.fixture
async def agent(home):
    """Start a node's agent, which ends with the test; with `joins` the machine joins first."""
    agents: list[asyncio.subprocess.Process] = []

    async def start(name: str, joins: Plane | None = None) -> asyncio.subprocess.Process:
        environ = {
            "HOMEPORT_HOME": str(home.parent / name),
            "HOMEPORT_ISOLATION": "off",
            "HOMEPORT_CGROUP": "off",
        }
        if joins is not None:
            environ["HOMEPORT_NODE_JOIN"] = f"127.0.0.1:{joins.port} {name}"
            environ["HOMEPORT_NODE_TOKEN"] = joins.token
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "homeport.node", str(home.parent / "runner.py")),
            cwd=ROOT,
            env=os.environ | environ,
        )
        agents.append(process)
        return process

    yield start
    # The loop has to hear of their ends: else Python warns of a running process in whatever test is next.
    for process in agents:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def ended(pids: set[int]) -> bool:
    return not any(map(processes.lives, pids))


def runners(home: Path) -> set[int]:
    """Return the ids of the processes that are containers of a node."""
    words = str(home.parent / "runner.py"), "homeport.node"
    return {p.pid for p in processes.of_home(home.parent, words[0]) if words[1] not in p.cmdline()}


async def test_a_control_plane_that_was_killed_finds_its_containers_and_starts_no_others(
    home, agent
):
    async with plane(home) as first:
        await agent("a", joins=first)
        before = await until(lambda: first.ready(2), "two containers")
    async with plane(home) as second:
        after = await until(lambda: second.ready(2), "the same two")

        assert before == after
        assert second.seen == after.keys()


async def test_a_node_that_comes_too_late_is_fenced_also_after_another_kill(home, agent):
    async with plane(home) as first:
        of_a = await agent("a", joins=first)
        before = await until(lambda: first.ready(2), "two containers")
        pids = await asyncio.to_thread(runners, home)
        of_a.kill()
        await of_a.wait()
    async with plane(home, 0.1) as second:
        await agent("b", joins=second)
        replaced = await until(lambda: second.ready(2), "their replacements")
        assert {"b"} == set(replaced.values())
        assert not ended(pids)
    async with plane(home) as third:
        await until(lambda: third.ready(2), "the replacements again")
        await agent("a")
        await until(lambda: ended(pids), "the end of those that were replaced")

        assert replaced == third.ready(2)
        assert not third.seen & before.keys()
