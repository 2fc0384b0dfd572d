"""Containers that are forked: real zygotes, real scripts, real sockets."""

import asyncio
import dataclasses
import os
import signal
import sys
import tempfile
import textwrap
from pathlib import Path

import httpx
import psutil
import pytest

from homeport.contract.container import Container, State
from homeport.contract.image import Image, Step
from homeport.contract.manifest import WebKind, WebMethod
from homeport.node.agent import Agent
from homeport.node.containers import door as doors
from homeport.node.images.made import Made
from homeport.node.zygotes import bases, nursery
from homeport.runner import tmp
from homeport.settings import Settings
from tests import processes
from tests.node.test_agent import Watched
from tests.orders import order
from tests.waiting import until

APP = """
import os
import modal

app = modal.App("app")


async def answer(send, text):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(text).encode()})


@app.function()
@modal.asgi_app()
def web():
    async def app(scope, receive, send):
        await answer(send, say())
    return app
"""


class House:
    """An agent in the test's own home, with a folder of installed packages."""

    def __init__(self, settings: Settings, root, *, tied: bool = True) -> None:
        self.watched = Watched()
        self.installed = root / "site-packages"
        self.installed.mkdir(exist_ok=True)
        self.source = root / "source"
        self.source.mkdir(exist_ok=True)
        self.agent = Agent(settings, tied=tied)
        built = Made(
            key="k", python=sys.executable, directory=root, runner_path=str(self.installed)
        )
        self.agent._environments.of = lambda _image: built
        self.agent.watch(self.watched.changed, self.watched.said)
        self.count = 0

    def install(self, name: str, text: str) -> None:
        """Install a package that scripts may import."""
        (self.installed / f"{name}.py").write_text(textwrap.dedent(text))

    def write(self, text: str) -> None:
        """Write the user's script."""
        (self.source / "script.py").write_text(APP + textwrap.dedent(text))

    async def start(self, environ=None, **changes) -> Container:
        """Start one more container; return when it is ready or has failed."""
        self.count += 1
        web = WebMethod(tag="web", attribute="web", kind=WebKind.ASGI)
        fields = {
            "id": f"ta-{self.count}",
            "function": "web",
            "module": "script",
            "qualname": "web",
            "web": (web,),
            "source": str(self.source),
        }
        self.watched.states.clear()
        await self.agent.start(order(**{**fields, **changes}), environ or {})
        return await self.watched.until(State.READY, State.FAILED)

    async def get(self, container: Container) -> str:
        """Send one request; return the answer's text."""
        transport = httpx.AsyncHTTPTransport(uds=doors.path(container.address))
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return (await client.get("/")).text

    def tmp_dir(self, container: Container) -> str:
        """Return its directory for temporary files."""
        return self.agent._lives[container.id].launch.tmp_dir

    async def learned(self, name: str) -> None:
        """Return when the zygote has loaded a module, or has refused it."""

        def settled() -> bool:
            return any(
                function.starting is not None
                and function.starting.done()
                and name in function.tried
                for function in self.agent._zygotes._functions.all()
            )

        await until(settled, f"the zygote to know `{name}`")


@pytest.fixture
def good_and_bad(tmp_path, monkeypatch, caplog):
    """Let the base zygote import `good` and `bad`, of which the second is unsafe; it begins when the house opens."""
    caplog.set_level("INFO")
    monkeypatch.setattr(bases, "BASE", ("good", "bad"))
    installed = tmp_path / "site-packages"
    installed.mkdir()
    (installed / "good.py").write_text("import time\nAT = time.monotonic_ns()")
    (installed / "bad.py").write_text(
        "import socket, time\nAT, S = time.monotonic_ns(), socket.socket()"
    )


@pytest.fixture
async def house(tmp_path):
    """An open house."""
    settings = Settings(home=tmp_path / "home", isolation="off")
    settings.socket_dir.mkdir(parents=True)
    house = House(settings, tmp_path)
    await house.agent.open()
    yield house
    await house.agent.close()


async def test_a_container_is_forked_is_a_process_of_its_own_and_leaves_nothing(house, tmp_path):
    house.write("def say(): return [os.getpid(), os.getppid(), os.path.realpath(__file__)]")
    first, second = await house.start(), await house.start()
    answers = [eval(await house.get(container)) for container in (first, second)]
    for container in (first, second):
        await house.agent.stop(container.id)
    await house.watched.until(State.GONE)

    assert ["forked", "forked"] == [first.origin, second.origin]
    inits = [answers[0][1], answers[1][1]]
    assert 2 == len(set(inits))
    assert [
        [c.pid, init, str(house.source / "script.py")]
        for c, init in zip((first, second), inits, strict=True)
    ] == answers

    async def none_left() -> bool:
        return not (await house.agent.list()).containers

    await until(none_left, "the containers to end")
    files = tmp_path / "home" / "run" / "containers"
    await until(lambda: not list(files.iterdir()), "their files to be deleted")


async def test_a_container_has_each_thing_once_even_if_no_child_was_forked_ahead(house):
    house.write("""
        def say():
            links = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")[:-1]]
            return [link for link in links if link.startswith(("socket:", "/memfd:"))]
    """)
    containers = [await house.start() for _ in range(4)]  # faster than spares are forked

    for container in containers:
        links = eval(await house.get(container))
        assert len(links) == len(set(links)), links


@pytest.fixture(params=["forked", "fresh"])
async def either_house(request, tmp_path):
    """A house whose containers begin in that way: users see no difference."""
    settings = Settings(home=tmp_path / "home", isolation="off")
    if request.param == "fresh":
        settings = dataclasses.replace(settings, zygote_mib=0)
    settings.socket_dir.mkdir(parents=True)
    house = House(settings, tmp_path)
    await house.agent.open()
    yield house
    await house.agent.close()


async def test_a_container_has_no_arguments_and_its_programs_can_be_interrupted(either_house):
    either_house.write(
        """
        import signal, subprocess, sys
        def say():
            sleep = subprocess.Popen(["sleep", "60"])
            sleep.send_signal(signal.SIGINT)
            return sys.argv[1:], sleep.wait(60)
        """
    )
    container = await either_house.start()

    assert str(([], -signal.SIGINT)) == await either_house.get(container)


@pytest.mark.parametrize(
    ("workdir", "below"),
    [("/root", ""), ("/root/data", "/data"), ("new", "/new"), ("/not/there", ""), ("/", None)],
)
async def test_the_working_directory_is_the_app_s_where_the_original_s_is_below_its_home(
    house, workdir, below
):
    (house.source / "data").mkdir()
    house.write("def say(): return os.getcwd()")
    steps = (Step(name="workdir", args={"path": workdir}),)
    container = await house.start(image=Image(steps=steps))

    wanted = "/" if below is None else f"{house.source}{below}"
    assert wanted == await house.get(container)


async def test_other_processes_of_a_container_find_modal_too(either_house):
    either_house.write(
        """
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor
        def square(n): return n * n
        def say():
            found = []
            for how in ("fork", "spawn"):
                context = multiprocessing.get_context(how)
                with ProcessPoolExecutor(1, mp_context=context) as pool:
                    found.append(pool.submit(square, 3).result(20))
            return found
        """
    )
    container = await either_house.start()

    assert "[9, 9]" == await either_house.get(container)


async def test_a_process_that_the_user_s_code_has_forked_is_ended_without_its_container(
    either_house,
):
    either_house.write(
        """
        import multiprocessing, time
        def say():
            found = []
            for _ in range(5):
                child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
                child.start()
                child.terminate()
                child.join(10)
                found.append(child.exitcode)
            return found
        """
    )
    container = await either_house.start()
    answers = [await either_house.get(container) for _ in range(5)]

    assert [str([-signal.SIGTERM] * 5)] * 5 == answers
    assert [State.STARTING, State.READY] == either_house.watched.states


async def test_work_that_a_script_has_registered_for_its_end_is_done(either_house, tmp_path):
    either_house.write(
        f"""
        import atexit, threading, time
        from pathlib import Path
        def say(): return 1
        def write(name): (Path({str(tmp_path)!r}) / name).write_text("")
        def late():
            while threading.main_thread().is_alive(): time.sleep(0.01)
            write("thread")
        atexit.register(write, "registered")
        threading.Thread(target=late).start()
        print("no newline", end="")
        """
    )
    container = await either_house.start()
    await either_house.agent.stop(container.id)
    await either_house.watched.until(State.GONE)

    assert (tmp_path / "registered").exists()
    assert (tmp_path / "thread").exists()
    assert "no newline" in [line.text for line in either_house.watched.lines]


async def test_ps_shows_which_container_a_process_is(house):
    house.write("def say(): return 1")
    container = await house.start()
    words = psutil.Process(container.pid).cmdline()

    assert "homeport.runner ta-1 app web" in " ".join(words)


async def test_a_container_ends_as_its_process_ends(house):
    house.write("def say(): return 1")
    container = await house.start()
    os.kill(container.pid, signal.SIGSEGV)
    gone = await house.watched.until(State.GONE)

    assert "was killed by SIGSEGV" == gone.reason


async def test_random_numbers_differ_from_container_to_container(house):
    house.write(
        """
        import random
        import uuid
        import numpy
        def say(): return [random.random(), float(numpy.random.rand()), str(uuid.uuid1())]
        """
    )
    first = await house.start()
    await house.learned("numpy")
    containers = [first, *[await house.start() for _ in range(3)]]
    answers = [eval(await house.get(container)) for container in containers]

    for column in zip(*answers, strict=True):
        assert 4 == len(set(column))


async def test_modules_that_a_script_imports_are_loaded_ahead_for_its_next_container(house):
    house.install("heavy", "import time\nAT = time.monotonic_ns()")
    house.write("import heavy\ndef say(): return heavy.AT")
    first = await house.start()
    await house.learned("heavy")
    answers = [
        await house.get(container)
        for container in (first, await house.start(), await house.start())
    ]

    assert answers[0] != answers[1]
    assert answers[1] == answers[2]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()", "it starts a thread"),
        ("import socket\nS = socket.socket()", "it opens a socket"),
        ("import os\nF = os.open('/tmp', os.O_TMPFILE | os.O_RDWR)", "it opens a file for writing"),
        ("import logging\nlogging.basicConfig(level='INFO')", "it changes logging"),
        ("import os\nPID = os.getpid()", "it keeps the process id"),
    ],
)  # fmt: skip
async def test_a_module_that_cannot_be_forked_is_imported_by_each_container_itself(
    house, caplog, text, reason
):
    caplog.set_level("INFO")
    house.install("unsafe", f"import time\nAT = time.monotonic_ns()\n{text}")
    house.install("safe", "import time\nAT = time.monotonic_ns()")
    house.write("import unsafe, safe\ndef say(): return [unsafe.AT, safe.AT]")
    await house.start()
    await house.learned("unsafe")
    answers = [eval(await house.get(await house.start())) for _ in range(2)]

    assert answers[0][0] != answers[1][0]
    assert answers[0][1] == answers[1][1]
    assert 1 == sum(
        f"`unsafe` is not preloaded for app web: {reason}" in m for m in caplog.messages
    )


@pytest.mark.usefixtures("good_and_bad")
async def test_an_unsafe_module_of_the_base_zygote_is_found_and_left_out(house, caplog):
    house.write("import good, bad\ndef say(): return [good.AT, bad.AT]")
    answers = [eval(await house.get(await house.start())) for _ in range(2)]

    assert answers[0][0] == answers[1][0]
    assert answers[0][1] != answers[1][1]
    assert any("`bad` is not preloaded: it opens a socket" in text for text in caplog.messages)


async def test_a_variable_that_an_import_has_looked_at_is_the_container_s_own(house):
    house.install("picky", "import os\nTOKEN = os.environ.get('TOKEN', 'none')")
    house.write("import picky\ndef say(): return [picky.TOKEN, os.environ.get('TOKEN')]")
    await house.start()
    await house.learned("picky")
    answers = [
        await house.get(await house.start(environ))
        for environ in ({"TOKEN": "a"}, {"TOKEN": "b"}, {})
    ]

    assert ["['a', 'a']", "['b', 'b']", "['none', None]"] == answers


async def test_the_log_says_once_that_a_function_has_no_zygote(house, monkeypatch):
    async def begun(zygote):
        zygote.end()
        return {"failure": "the zygote did not start: no room"}

    monkeypatch.setattr(nursery, "first_message", begun)
    house.install("heavy", "x = 1")
    house.write("import heavy\ndef say(): return heavy.x")
    for _ in range(2):
        assert "1" == await house.get(await house.start())
        await house.learned("heavy")
    line = "each container imports its modules again: the zygote did not start: no room"
    await house.watched.line(line)

    assert 1 == sum(line in logged.text for logged in house.watched.lines)


async def test_a_local_module_wins_over_a_preloaded_one_of_its_name(house):
    house.install("twin", "WHO = 'installed'")
    house.write("import twin\ndef say(): return twin.WHO")
    await house.start()
    await house.learned("twin")
    (house.source / "twin.py").write_text("WHO = 'local'")
    second = await house.start()

    assert "local" == await house.get(second)


async def test_a_zygote_that_dies_is_replaced_and_its_containers_go_on(house):
    house.write("def say(): return 'here'")
    first = await house.start()
    zygote = psutil.Process(first.pid).parent().ppid()
    os.kill(zygote, signal.SIGKILL)
    assert [] == processes.living(zygote)
    second = await house.start()

    assert ["here", "here"] == [await house.get(first), await house.get(second)]
    assert "forked" == second.origin
    assert zygote not in house.agent._zygotes.pids()


async def test_a_fork_is_not_disturbed_by_a_child_that_ends_at_the_same_moment(house):
    house.write("def say(): return 1")
    first = await house.start()
    init = psutil.Process(first.pid).parent()
    zygote = init.parent()
    (base,) = house.agent._zygotes._bases.all()
    await until(lambda: len(zygote.children()) > 1, "a spare beside the first container")
    zygote.suspend()
    second = asyncio.create_task(house.start())
    await until(lambda: base.current._answers, "the second to be asked for")
    # The oldest child: a zygote of the function may start at the same time.
    spare, *_ = [child for child in zygote.children() if child.pid != init.pid]
    spare.kill()  # so that the zygote has to fork at once, and hears of an end meanwhile
    await until(lambda: spare.status() == psutil.STATUS_ZOMBIE, "the spare to end")
    zygote.resume()

    container = await second
    assert (State.READY, "") == (container.state, container.reason)


async def test_zygotes_end_with_the_server_and_what_is_kept_goes_on(tmp_path):
    settings = Settings(home=tmp_path / "home", isolation="off")
    settings.socket_dir.mkdir(parents=True)
    house = House(settings, tmp_path, tied=False)
    await house.agent.open()
    house.write("def say(): return 'here'")
    container = await house.start()
    zygotes = house.agent._zygotes.pids()
    house.agent._zygotes.close()

    await until(lambda: not any(processes.lives(pid) for pid in zygotes), "the zygotes to end")
    assert "here" == await house.get(container)
    await house.agent.close()


SNAPSHOT = """
@app.cls(enable_memory_snapshot=True)
class Model:
    @modal.enter(snap=True)
    def load(self):
        print("loading")
        self.loaded_by = os.getpid()
        {extra}

    @modal.enter(snap=True)
    async def tune(self):
        self.tuned = True

    @modal.enter()
    async def begin(self):
        self.begun_by = os.getpid()

    @modal.asgi_app()
    def web(self):
        async def app(scope, receive, send):
            await answer(send, [self.loaded_by, self.tuned, self.begun_by, os.environ["MODAL_TASK_ID"]])
        return app
"""


def snapshot(extra: str = "pass") -> str:
    """The script."""
    return SNAPSHOT.replace("{extra}", extra)


CLASS = {"function": "Model.*", "qualname": "Model", "is_class": True, "enable_memory_snapshot": True}  # fmt: skip


async def test_the_state_after_the_snap_hooks_is_forked(house):
    house.write(snapshot())
    containers = [await house.start(**CLASS) for _ in range(3)]
    answers = [eval(await house.get(container)) for container in containers]

    assert 1 == len({by for by, *_ in answers})
    assert answers[0][0] not in {container.pid for container in containers}
    assert [[True, c.pid, c.id] for c in containers] == [rest for _, *rest in answers]
    await house.watched.line("loading")
    assert 1 == sum("loading" == line.text for line in house.watched.lines)


async def test_a_home_below_tmp_is_seen_by_a_snapshot_and_by_what_is_forked_from_it():
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="hp-") as folder:
        settings = Settings(home=Path(folder) / "home", isolation="off")
        settings.socket_dir.mkdir(parents=True)
        house = House(settings, Path(folder))
        await house.agent.open()
        house.write(snapshot("open('/tmp/of-the-snapshot', 'w').close()"))
        containers = [await house.start(**CLASS) for _ in range(2)]
        answers = [eval(await house.get(container)) for container in containers]
        left = [[*Path(house.tmp_dir(container)).iterdir()] for container in containers]
        await house.agent.close()

    assert ["snapshot", "snapshot"] == [container.origin for container in containers]
    assert 1 == len({by for by, *_ in answers})
    for paths in left:
        # What lies below the real /tmp and is needed is mounted here; the snapshot's own files are copied.
        names = {path.name for path in paths}
        assert {Path(folder).name, "of-the-snapshot"} <= names


async def test_a_state_that_cannot_be_forked_is_made_by_each_container_and_the_log_says_why(house):
    house.write(snapshot("import socket; self.socket = socket.socket()"))
    containers = [await house.start(**CLASS) for _ in range(2)]
    answers = [eval(await house.get(container)) for container in containers]

    assert [container.pid for container in containers] == [by for by, *_ in answers]
    await house.watched.line("no memory snapshot: it opens a socket")
    assert 1 == sum("no memory snapshot" in line.text for line in house.watched.lines)


async def test_files_of_a_snapshot_go_on_in_each_container_and_its_tasks_are_said_to_end(house):
    script = snapshot("os.makedirs('/tmp/model'); open('/tmp/model/weights', 'w').write('heavy')")
    script = script.replace(
        "self.tuned = True", "self.tuned = asyncio.create_task(asyncio.sleep(60)) and True"
    )
    house.write("import asyncio\n" + script)
    containers = [await house.start(**CLASS) for _ in range(2)]
    files = [Path(house.tmp_dir(container), "model", "weights") for container in containers]

    assert ["snapshot", "snapshot"] == [container.origin for container in containers]
    if tmp.possible():
        assert ["heavy", "heavy"] == [file.read_text() for file in files]
        files[0].write_text("changed")
        assert "heavy" == files[1].read_text()
    await house.watched.line(
        "the task `sleep` that `tune` started does not run in containers made from the snapshot: "
        "start it in a hook of `@modal.enter()`"
    )


async def test_a_snap_hook_that_fails_fails_the_start(house):
    house.write(snapshot("raise ValueError('no weights')"))
    failed = await house.start(**CLASS)

    assert State.FAILED is failed.state
    assert "enter failed: ValueError: no weights" == failed.reason
    assert "in load" in failed.traceback


async def test_a_snap_hook_has_its_time_like_any_start(house):
    house.write(snapshot("import time; print('pid', os.getpid(), flush=True); time.sleep(60)"))
    failed = await house.start(**CLASS, startup_timeout_s=1.0)
    pid = int((await house.watched.line("pid")).text.split()[1])

    assert "did not become ready within 1 s" == failed.reason
    await until(lambda: not processes.lives(pid), "its process to end")


async def test_a_pool_that_is_forgotten_while_its_snap_hook_hangs_leaves_no_process(house):
    house.write(snapshot("import time; print('pid', os.getpid(), flush=True); time.sleep(60)"))
    start = asyncio.create_task(house.start(**CLASS))
    pid = int((await house.watched.line("pid")).text.split()[1])
    await house.agent.stop("ta-1")
    await house.agent.forget(order(**CLASS).pool)

    await until(lambda: not processes.lives(pid), "its process to end")
    start.cancel()


async def test_the_time_of_a_snapshot_counts_for_the_start_that_waited_for_it(house):
    house.write(snapshot("import time; time.sleep(1)"))
    first, second = [await house.start(**CLASS) for _ in range(2)]

    assert ["snapshot", "snapshot"] == [first.origin, second.origin]
    assert 1000 <= first.timings_ms["entered"]
    assert "script" in first.imports_ms
    assert 1000 > second.timings_ms["entered"] + second.timings_ms["forked"]
    assert "script" not in second.imports_ms


async def test_a_start_that_hangs_says_in_which_part(house):
    house.write("import time\nif 'MODAL_TASK_ID' in os.environ: time.sleep(60)")
    failed = await house.start(startup_timeout_s=1.0)

    assert "did not become ready within 1 s" == failed.reason
    assert 1000 <= failed.timings_ms["imported"]
    assert "entered" not in failed.timings_ms


async def test_a_pool_that_is_forgotten_leaves_no_snapshot(house, tmp_path):
    house.write(snapshot())
    answer = eval(await house.get(await house.start(**CLASS)))
    await house.agent.forget(order(**CLASS).pool)

    await until(lambda: not processes.lives(answer[0]), "its process to end")
    assert [] == list((tmp_path / "home" / "run" / "snapshots").iterdir())


async def test_the_least_recently_used_zygotes_go_when_they_hold_too_much(house):
    house.agent._zygotes._limit_mib = 1
    house.install("picky", "import os\nTOKEN = os.environ.get('TOKEN', 'none')")
    house.write("import picky\ndef say(): return picky.TOKEN")
    await house.start()
    await house.learned("picky")
    for token in "abc":
        container = await house.start({"TOKEN": token})
        assert token == await house.get(container)

    await until(lambda: len(house.agent._zygotes.pids()) <= 1, "all zygotes but one to end")


async def test_zygotes_that_were_not_used_go_when_the_node_rests_and_the_next_container_has_one(
    house,
):
    house.write("import os\ndef say(): return os.getpid()")
    first = await house.start()
    (pid,) = house.agent._zygotes.pids()
    await house.agent.rest(60.0)
    assert [pid] == house.agent._zygotes.pids()  # it was used just now

    await house.agent.rest(0.0)
    await house.agent.stop(first.id)
    await until(lambda: not processes.lives(pid), "the end of the zygote")
    second = await house.start()

    assert "forked" == second.origin
    assert await house.get(second)
    assert pid not in house.agent._zygotes.pids()


async def test_without_zygotes_each_container_has_an_interpreter_of_its_own(tmp_path):
    settings = dataclasses.replace(Settings(home=tmp_path / "home", isolation="off"), zygote_mib=0)
    settings.socket_dir.mkdir(parents=True)
    house = House(settings, tmp_path)
    await house.agent.open()
    house.write("def say(): return os.getsid(0)")
    container = await house.start()

    assert "fresh" == container.origin
    assert "forking is off" in container.why_fresh
    init = psutil.Process(int(await house.get(container)))
    assert os.getpid() == init.ppid()
    await house.agent.close()
