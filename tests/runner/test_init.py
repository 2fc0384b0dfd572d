"""A container's init: when it ends, and which processes end with it."""

import os
import select
import signal
import socket
import subprocess
import sys

import psutil
import pytest

from tests import processes

FILES = """
def files():
    read, write = os.pipe()
    if os.fork() == 0:
        os.closerange(3, write)
        mine = [os.open("/proc/self/exe", os.O_RDONLY) for _ in range(3, write)]
        if os.fork():
            os._exit(0)
        os.write(write, repr([os.readlink(f"/proc/self/fd/{fd}") for fd in mine]).encode())
        os._exit(0)
    os.wait()
    return os.read(read, 9999).decode()
"""

APP = """
import os, subprocess, sys, time
import modal
app = modal.App("a")

@app.function()
@modal.asgi_app()
def hello():
    async def app(scope, receive, send):
        text = act(scope["path"].strip("/"))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(text).encode()})
    return app

def act(how):
    if how == "pid":
        return os.getpid()
    if how == "files":
        return files()
    if how == "thread":
        os.kill(os.getpid(), 9)
    read, write = os.pipe()
    if os.fork() == 0:
        if how == "daemon":
            os.setsid()
            if os.fork():
                os._exit(0)
        os.write(write, str(os.getpid()).encode())
        time.sleep(60)
        os._exit(0)
    return os.read(read, 20).decode()
"""


@pytest.fixture
def runner(start):
    """A container whose app can start and end processes."""
    return start(APP, web={"hello": "asgi_app"}).ready()


def gone(pid: int) -> bool:
    """Return whether a process ends within some seconds."""
    return [] == processes.living(pid)


@pytest.mark.parametrize("how", ["child", "daemon"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_of_a_container_outlives_its_runner(runner, how, number):
    child = int(runner.client.get(f"/{how}").text)
    pid = int(runner.client.get("/pid").text)
    assert processes.lives(child)
    os.kill(pid, number)

    assert (-9 if number == signal.SIGKILL else 0) == runner.process.wait(60)
    assert gone(child)


def test_processes_that_replace_each_other_are_found_however_fast_they_fork(start):
    hydra = f"import os, sys\n# of {os.getpid()}\nwhile True:\n    if os.fork(): os._exit(0)\n    os.setsid()\n"
    runner = start(
        APP.replace('if how == "pid":', f'if how == "hydra":\n        return subprocess.Popen([sys.executable, "-c", {hydra!r}]).pid\n    if how == "pid":'),
        web={"hello": "asgi_app"},
    ).ready()  # fmt: skip
    runner.client.get("/hydra")
    os.kill(int(runner.client.get("/pid").text), signal.SIGKILL)
    runner.process.wait(60)

    assert not processes.with_word(hydra)


def test_the_runner_ends_with_its_init(runner):
    child, pid = int(runner.client.get("/child").text), int(runner.client.get("/pid").text)
    runner.process.kill()
    runner.process.wait()

    assert gone(pid)
    os.kill(child, signal.SIGKILL)  # the node looks for it: tests/node/test_agent.py


@pytest.mark.parametrize("how", ["child", "daemon"])
def test_a_child_of_the_users_keeps_neither_the_door_nor_a_connection(runner, how):
    pid = int(runner.client.get("/pid").text)  # this connection stays open
    child = int(runner.client.get(f"/{how}").text)
    with socket.socket(socket.AF_UNIX) as visitor:
        visitor.connect(runner.door)
        visitor.sendall(b"GET /pid HTTP/1.1\r\nHost: x\r\n\r\n")
        assert visitor.recv(1)
        psutil.Process(runner.process.pid).suspend()  # so that the child lives on
        # Readable when the last thread has ended. The first one can be a zombie before, and files stay open.
        ended = os.pidfd_open(pid)
        os.kill(pid, signal.SIGKILL)
        assert select.select([ended], [], [], 20)[0]
        os.close(ended)
        alive = processes.lives(child)
        visitor.settimeout(10)
        while visitor.recv(4096):
            pass
        with socket.socket(socket.AF_UNIX) as late, pytest.raises(ConnectionRefusedError):
            late.connect(runner.door)
    psutil.Process(runner.process.pid).resume()

    assert alive
    assert -9 == runner.process.wait(60)
    assert gone(child)


def test_a_fresh_interpreter_without_a_session_of_its_own_gets_one():
    script = (
        "import os\n"
        "from homeport.runner import init\n"
        "init.separate()\n"
        "print(os.getsid(0) == os.getppid(), flush=True)\n"
        "os._exit(7)\n"
    )
    null = os.open(os.devnull, os.O_RDWR)
    environ = {f"HOMEPORT_{name}_FD": str(null) for name in ("REPORT", "DOOR", "PULSE")}
    ended = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **environ},
        pass_fds=(null,),
        capture_output=True,
        text=True,
        check=False,
    )
    os.close(null)

    assert ("True\n", 7) == (ended.stdout, ended.returncode), ended.stderr


def test_the_files_of_a_child_stay_its_own_whatever_their_numbers(start):
    runner = start(APP + FILES, web={"hello": "asgi_app"}).ready()
    files = eval(runner.client.get("/files").text)

    assert os.path.realpath(sys.executable) in files
    assert os.devnull not in files  # libuv puts pipes of its own there, under uvicorn too


def test_a_process_that_forks_continues_when_the_child_has_let_go(start):
    runner = start(
        APP.replace(
            'if how == "pid":',
            """if how == "busy":
        os.register_at_fork(after_in_child=lambda: time.sleep(0))
        held = []
        for _ in range(20):
            if (child := os.fork()) == 0:
                time.sleep(60)
            links = [os.readlink(f"/proc/{child}/fd/{fd}") for fd in os.listdir(f"/proc/{child}/fd")]
            held.append(sum(link.startswith("socket:") for link in links))
        return held
    if how == "pid":""",
        ),
        web={"hello": "asgi_app"},
    ).ready()

    assert 1 == len(set(eval(runner.client.get("/busy").text)))
