"""Containers that are forked inside cells: as `test_nursery.py`, with isolation on."""

import asyncio
import contextlib
import dataclasses
import os
import shutil
import sysconfig
import uuid
import venv
from pathlib import Path

import psutil
import pytest

from homeport.contract.container import State
from homeport.contract.image import Image, Step
from homeport.node.images.made import Made
from homeport.settings import Settings
from tests import isolation, processes
from tests.node.zygotes.test_nursery import House

#: Says where the process is, and whether it has loaded `heavy` itself.
TOLD = """
import heavy
def say():
    return [os.getpid(), os.getcwd(), os.path.exists(os.environ["OUTSIDE"]), heavy.AT]
"""
HEAVY = "import os, time\nAT = time.monotonic_ns()\n"


@pytest.fixture
async def house(tmp_path):
    """An open house whose containers are in cells."""
    isolation.needed()
    settings = Settings(home=tmp_path / "home", isolation="on")
    settings.socket_dir.mkdir(parents=True)
    house = House(settings, tmp_path)
    house.install("heavy", HEAVY)
    await house.agent.open()
    yield house
    await house.agent.close()


def use_interpreter(house: House, folder: Path) -> None:
    """Make a virtual environment with the package `heavy`; let all containers start with its interpreter."""
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "heavy.py").write_text(HEAVY)
    made = Made(
        key="other",
        python=str(folder / "bin/python"),
        directory=folder,
        runner_path=sysconfig.get_path("purelib"),
    )
    house.agent._environments.of = lambda _image: made


async def told(house: House, container) -> list:
    assert State.READY is container.state, (container.reason, container.traceback)
    return eval(await house.get(container))


async def started(house: House, **changes) -> tuple:
    """Start a container; return it with what it says."""
    container = await house.start({"OUTSIDE": __file__}, **changes)
    return container, await told(house, container)


async def test_a_functions_zygote_forks_containers_in_cells_and_versions_share_it(house):
    house.write(TOLD)
    first, (_, _, _, itself) = await started(house)
    await house.learned("heavy")
    second, (pid, where, sees_outside, at) = await started(house)
    zygotes = set(house.agent._zygotes.pids())
    third, (_, _, _, also) = await started(house, revision="rv-2")

    assert ["forked"] * 3 == [first.origin, second.origin, third.origin]
    assert itself != at, "the first container has imported it itself"
    assert at == also
    assert zygotes == set(house.agent._zygotes.pids())
    assert (False, "/root") == (sees_outside, where)
    assert pid < second.pid, "a process id of its own cell"


async def test_a_forked_container_has_none_of_its_zygotes_signals_and_events(house):
    house.write(
        "import heavy, os, signal\n"
        "def links():\n"
        "    for name in os.listdir('/proc/self/fd'):\n"
        "        try: yield os.readlink(f'/proc/self/fd/{name}')\n"
        "        except OSError: pass\n"
        "def say():\n"
        "    usual = signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL\n"
        "    return [usual, sum('eventpoll' in link for link in links())]\n"
    )
    first = await house.start()
    of_first = await told(house, first)
    await house.learned("heavy")
    second = await house.start()
    of_second = await told(house, second)

    assert ["forked"] * 2 == [first.origin, second.origin]
    assert [[True, 1]] * 2 == [of_first, of_second], "one for its own loop"


async def test_an_agent_that_closes_waits_for_the_end_of_its_cells(house):
    """Else the command that ends it is over while a process of it still runs."""
    house.write(TOLD)
    await started(house)
    cells = [each for each in psutil.Process().children() if "homeport.cell" in each.cmdline()]
    for cell in cells:
        cell.suspend()  # as if it had no turn on a busy machine
    closing = asyncio.create_task(house.agent.close())
    done, _ = await asyncio.wait({closing}, timeout=0.3)
    for cell in cells:
        cell.resume()
    await closing

    assert cells
    assert not done
    assert not any(map(processes.lives, cells))


@pytest.mark.parametrize(
    ("workdir", "where"),
    [("/srv/work/deep", "/srv/work/deep"), ("data", "/root/data"), ("/etc/passwd", "/root")],
)
async def test_the_working_directory_is_made_as_a_dockerfile_does(house, workdir, where):
    house.write(TOLD)
    image = Image(steps=(Step(name="workdir", args={"path": workdir}),))
    directories = [(await started(house, image=image))[1][1] for _ in range(2)]

    assert [where, where] == directories
    assert not Path("/srv/work/deep").exists(), "it is on this machine"


@pytest.mark.parametrize("below_root", [True, False])
async def test_the_interpreter_may_be_below_root_and_elsewhere(house, tmp_path, below_root):
    """In a cell /root is the app's own tree, in which an interpreter is mounted."""
    if below_root and not os.access("/root", os.W_OK):
        pytest.skip("only root may write there")
    folder = (Path("/root") if below_root else tmp_path) / f".homeport-{uuid.uuid4()}"
    try:
        use_interpreter(house, folder)
        house.write(TOLD)
        await started(house)
        await house.learned("heavy")
        second, (_, _, _, at) = await started(house)
        third, (_, _, _, also) = await started(house)
        for container in (second, third):
            await house.agent.stop(container.id)
        await house.watched.until(State.GONE)
    finally:
        shutil.rmtree(folder)

    assert ["forked", "forked"] == [second.origin, third.origin]
    assert at == also
    assert [] == [line.text for line in house.watched.lines if line.source == "system"]


async def test_the_apps_log_says_once_that_there_is_no_zygote_and_containers_start_without(
    house, monkeypatch
):
    cells = house.agent._zygotes.cells
    right = cells.for_zygote

    @contextlib.contextmanager
    def wrong(*args, **kwargs):
        with right(*args, **kwargs) as handed:
            # No file system has such a name, so the cell cannot be made.
            yield dataclasses.replace(
                handed, request={**handed.request, "storage": "f" + 300 * "x"}
            )

    monkeypatch.setattr(cells, "for_zygote", wrong)
    house.write(TOLD)
    containers = [(await started(house), await house.learned("heavy"))[0] for _ in range(2)]
    line = await house.watched.line("each container imports its modules again: the zygote did not")

    assert ["forked"] * 2 == [container.origin for container, _ in containers]
    assert 2 == len({at for _, (_, _, _, at) in containers})
    assert [line] == [each for each in house.watched.lines if each.source == "system"]
