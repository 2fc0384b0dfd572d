"""Containers within their limits go on; a container over a limit is killed."""

import asyncio
import os
import textwrap
from collections import Counter

import pytest

from homeport.contract.capacity import Accelerator
from homeport.contract.container import State
from homeport.node.agent import Agent
from homeport.node.limits import cgroups, keeper, watchdog
from homeport.node.limits.keeper import Limits
from homeport.settings import Settings
from tests.node.test_agent import REPORT, Watched
from tests.orders import launch, order
from tests.waiting import until

READY = 'say(kind="ready")\n'


@pytest.fixture
async def start(tmp_path):
    """Start a container whose runner is this script."""
    settings = Settings(home=tmp_path / "home", cgroup="off", isolation="off")
    settings.socket_dir.mkdir(parents=True)
    opened = []

    async def start(script: str, **changes) -> Watched:
        runner = tmp_path / "runner.py"
        runner.write_text(REPORT + textwrap.dedent(script))
        agent, watched = Agent(settings, tied=True, runner=(str(runner),)), Watched()
        agent.watch(watched.changed, watched.said)
        await agent.open()
        opened.append(agent)
        await agent.start(order(**changes), {})
        return watched

    yield start
    for agent in opened:
        await agent.close()


async def test_a_container_over_its_memory_limit_is_killed_and_the_reason_says_so(start):
    watched = await start(
        READY + "import subprocess\n"
        # A child with its own session counts too.
        "eat = 'import time; x = bytearray(200 << 20); time.sleep(60)'\n"
        "subprocess.Popen([sys.executable, '-c', eat], start_new_session=True)\n"
        "time.sleep(60)\n",
        memory_mib=(32, 100),
    )
    container = await watched.until(State.GONE)

    assert container.reason.startswith("was killed: it used ")
    assert container.reason.endswith(" MiB of memory, and its limit is 100 MiB")


async def test_a_container_over_a_limit_before_it_is_ready_has_failed_for_that(start):
    watched = await start("x = bytearray(200 << 20)\ntime.sleep(60)", memory_mib=(32, 100))
    container = await watched.until(State.FAILED)

    assert "and its limit is 100 MiB" in container.reason


async def test_a_container_over_its_disk_limit_is_killed_and_the_reason_says_so(start):
    watched = await start(
        READY + "with open(launch['tmp_dir'] + '/../big', 'wb') as big:\n"
        "    big.write(bytes(30 << 20))\n"
        "os.rename(big.name, launch['tmp_dir'] + '/big')\n"  # all of it at once
        "time.sleep(60)\n",
        ephemeral_disk_mib=20,
    )
    container = await watched.until(State.GONE)

    assert "was killed: it used 30 MiB of temporary disk, and its limit is 20 MiB" == (
        container.reason
    )


@pytest.fixture
def looked(monkeypatch):
    """Wait until the watchdog has measured the container once, from beginning to end."""
    looks = []
    look = watchdog.look
    monkeypatch.setattr(watchdog, "look", lambda *given: looks.append(given[0]) or look(*given))

    async def looked() -> None:
        before = len(looks)
        await until(lambda: len(looks) > before + 1, "the watchdog")
        assert all(looks[before:])

    return looked


async def test_a_container_within_its_limits_goes_on(start, looked):
    watched = await start(
        READY + "x = bytearray(50 << 20)\nprint('full', flush=True)\ntime.sleep(60)",
        memory_mib=(32, 400),
        ephemeral_disk_mib=20,
    )
    await watched.line("full")
    await looked()

    assert [State.STARTING, State.READY] == watched.states


async def test_memory_that_processes_share_counts_once(start, looked):
    watched = await start(
        READY + "x = bytearray(b'x' * (80 << 20))\n"
        "for _ in range(3):\n"
        "    if os.fork() == 0:\n"
        "        time.sleep(60)\n"
        "print('full', flush=True)\ntime.sleep(60)",
        memory_mib=(32, 250),  # four times 90 MiB are resident
    )
    await watched.line("full")
    await looked()

    assert [State.STARTING, State.READY] == watched.states


async def test_limits_are_enforced_after_a_look_that_has_failed():
    """As where the server has no descriptor left for a moment."""
    looks = []

    def written_mib(_directory: str) -> float:
        looks.append(1)
        if len(looks) == 1:
            raise OSError(24, "Too many open files")
        return 30.0

    kept, killed = Limits(), asyncio.get_running_loop().create_future()
    kept.disk_mib = written_mib
    its = launch(ephemeral_disk_mib=20)
    kept.open(
        "off",
        "homeport-x",
        [],
        lambda: [(0, its)],
        lambda *why: killed.done() or killed.set_result(why),
    )
    kept.watch(its)
    async with asyncio.timeout(60):
        container, why = await killed
    await kept.close()

    assert ("ta-1", True) == (container, "30 MiB of temporary disk" in why)


def test_the_kernel_gets_the_limits_of_a_function():
    both = order(cpu=(0.5, 2.0), memory_mib=(256, 1024)).function

    assert {
        "cpu.weight": "50",
        "cpu.max": "200000 100000",
        "memory.low": "268435456",
        "memory.max": "1073741824",
        "memory.swap.max": "0",
        "memory.oom.group": "1",
    } == cgroups.settings(both)
    assert {"cpu.weight": "1"} == cgroups.settings(order(cpu=(0.001, None)).function)
    assert {} == cgroups.settings(order().function)


def test_a_core_limit_without_cgroups_is_the_least_taken_cores():
    assert (2,) == keeper.cores(0.5, [0, 1, 2], Counter({0: 2, 1: 1}))
    assert (1, 2) == keeper.cores(2, [0, 1, 2], Counter({0: 2, 1: 1}))
    assert () == keeper.cores(3, [0, 1, 2], Counter())


async def test_the_agent_tells_what_the_machine_has(tmp_path):
    card = Accelerator(id="GPU-1", name="NVIDIA L4", memory_mib=23034)
    settings = Settings(home=tmp_path / "home", isolation="off")
    settings.socket_dir.mkdir(parents=True)
    agent = Agent(settings, tied=True, accelerators=lambda: (card,))
    await agent.open()
    told = (await agent.list()).capacity
    await agent.close()

    assert ((card,), os.cpu_count()) == (told.accelerators, told.cores)
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert pages // 1024**2 == told.memory_mib
    assert not (settings.run_dir / "containers").exists()
