"""A start opens one stage after the other; what fails, and what ends, closes them in reverse."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

import homeport.settings
from homeport.client import Client
from homeport.contract import codec, starting
from homeport.contract.errors import BadRequest, Failure, PortTaken
from homeport.control.lifeline import Lifeline
from homeport.control.main import Leaving, _open, locked, own_node, read
from homeport.settings import Settings
from tests.control.started import Start, blocked, running
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
OPENED = ["nodes open", "ingress opens", "ingress has the tokens", "ingress starts"]


@contextlib.asynccontextmanager
async def started(settings: Settings, start: Start, *, kept: bool = True):
    """A server that is open: its lifeline, and the event that ends it."""
    stop = asyncio.Event()
    lifeline = Lifeline(stop, kept=kept)
    with locked(settings):
        async with AsyncExitStack() as opened:
            real = await _open(settings, lifeline, Leaving(stop), start.left, opened, start.roles)
            yield real, lifeline, stop


async def test_the_node_of_the_servers_machine_is_closed_with_the_server(tmp_path):
    settings = Settings(home=tmp_path / "home", isolation="off", zygote_mib=0)
    settings.socket_dir.mkdir(parents=True)

    def reads() -> list[str]:
        return [
            thread.name for thread in threading.enumerate() if thread.name == "container output"
        ]

    async with AsyncExitStack() as opened:
        nodes = await own_node(settings, True, lambda _line: None, opened)
        assert 1 == len(nodes.capacities())
        assert 1 == len(reads())

    assert [] == reads()


async def test_a_start_opens_every_stage_and_the_end_closes_them_in_reverse(tmp_path):
    start = Start()
    settings = Settings(home=tmp_path, http_port=0)
    async with started(settings, start) as (real, lifeline, stop):
        assert OPENED == start.story
        assert start.ingress.http_port == real.http_port
        async with Client(real) as client:
            status = await client.server.status()
            assert (os.getpid(), 4663, True) == (status.pid, status.http_port, status.kept)
            assert 1 == status.ingress_pid
            assert not lifeline.busy()
            assert not stop.is_set()
            await client.server.shutdown()
            assert stop.is_set()

    assert [*OPENED, "ingress closes", "node closes"] == start.story
    assert not settings.control_socket.exists()
    assert not settings.activator_socket.exists()
    assert not start.left.something


@pytest.mark.parametrize(
    ("fails", "story"),
    [
        ("nodes open", []),
        ("ingress opens", ["nodes open", "node closes"]),
        (
            "ingress has the tokens",
            ["nodes open", "ingress opens", "ingress closes", "node closes"],
        ),
        ("ingress starts", [*OPENED[:-1], "ingress closes", "node closes"]),
    ],
)
async def test_a_stage_that_fails_closes_those_before_it_and_the_next_start_finds_nothing(
    tmp_path, fails, story
):
    settings, start = Settings(home=tmp_path), Start(fails=fails)
    with pytest.raises(Failure, match=f"it fails when {fails}"):
        async with started(settings, start):
            pass

    assert story == start.story
    assert not start.left.something
    assert not settings.control_socket.exists()
    async with started(settings, again := Start()):
        assert OPENED == again.story


@pytest.mark.parametrize(
    ("path", "story"),
    [
        (lambda settings: settings.home / "homeport.db", ["nodes open", "node closes"]),
        (
            lambda settings: settings.activator_socket,
            [*OPENED[:-1], "ingress closes", "node closes"],
        ),
        (lambda settings: settings.control_socket, [*OPENED, "ingress closes", "node closes"]),
    ],
)
async def test_a_path_that_is_taken_is_an_error_that_leaves_nothing_open(tmp_path, path, story):
    settings, start = Settings(home=tmp_path), Start()
    with blocked(path(settings)), pytest.raises((Failure, OSError)):
        async with started(settings, start):
            pass

    assert story == start.story
    async with started(settings, Start()) as (real, _lifeline, _stop), Client(real) as client:
        assert await client.server.status()


async def test_a_wrong_setting_is_found_before_anything_is_touched(tmp_path):
    start = Start()
    with pytest.raises(BadRequest, match="HOMEPORT_API_PORT is for plain HTTP on this machine"):
        open_to_all = Settings(home=tmp_path, host="0.0.0.0", api_port=0, token="word")
        async with started(open_to_all, start):
            pass
    with pytest.raises(BadRequest, match="the database is a file of the home"):
        async with started(Settings(home=tmp_path, standby_addresses="10.0.0.1"), start):
            pass
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken, match=f":{port}"):
            async with started(Settings(home=tmp_path, api_port=port, token="word"), start):
                pass

    assert [] == start.story
    assert not (tmp_path / "homeport.db").exists()


async def test_the_api_over_tcp_is_for_those_who_know_the_token(tmp_path):
    port = free_port()
    settings = Settings(home=tmp_path, api_port=port, token="word")
    async with started(settings, Start()):
        server = f"http://127.0.0.1:{port}"
        async with Client(Settings(home=tmp_path, server=server, token="word")) as client:
            assert await client.server.status()
        async with Client(Settings(home=tmp_path, server=server, token="other")) as client:
            with pytest.raises(Failure, match="the token is wrong"):
                await client.server.status()


@pytest.mark.parametrize("fails", ["ingress opens", "ingress starts"])
async def test_a_start_that_fails_knows_whether_something_was_running(tmp_path, fails):
    start = Start(running(), fails)
    with pytest.raises(Failure):
        async with started(Settings(home=tmp_path), start):
            pass

    assert start.left.something


async def test_an_ingress_that_was_taken_over_is_something_too(tmp_path):
    start = Start(fails="ingress starts")
    start.ingress.took_over = True
    with pytest.raises(Failure):
        async with started(Settings(home=tmp_path), start):
            pass

    assert start.left.something


#: Whole servers, by name: what an earlier one has left, and where the start fails.
SERVERS = {
    "without its command": ("nothing", ""),
    "nothing ran before": ("nothing", "ingress starts"),
    "a container ran before": ("running", "ingress starts"),
}
CODE = """
import gc, json, os, sys
import homeport.control.api.routes, homeport.control.stages, homeport.control.stored
from homeport.control.main import main
from tests.control.started import Printed, Start, running

gc.freeze()  # or the end of each child looks at all that was imported
codes = []
for files, found, fails in json.load(sys.stdin):
    if not (pid := os.fork()):
        for descriptor, file in enumerate(files):
            os.dup2(os.open(file, os.O_RDWR), descriptor)
        sys.stdin = open(0)
        start = Start(running() if found == "running" else None, fails, Printed())
        sys.exit(main(start.roles))
    codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
print(json.dumps(codes))
"""


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """Whole servers that have ended, by name: the exit code, the answer and what was closed.

    Each is a fork of one process that has imported what a server imports.
    """
    root = tmp_path_factory.mktemp("servers")
    orders = []
    for name, (found, fails) in SERVERS.items():
        files = [root / f"{name}.{end}" for end in ("in", "out", "err")]
        settings = {"home": str(root / name), "http_port": 0}
        files[0].write_text(codec.dumps(starting.Start(settings=settings, kept=False)) + "\n")
        for file in files[1:]:
            file.touch()
        orders.append(([str(file) for file in files], found, fails))
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        input=json.dumps(orders),
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        check=True,
    )
    stories = {}
    for name, code in zip(SERVERS, json.loads(done.stdout), strict=True):
        answer = codec.loads(starting.Started, (root / f"{name}.out").read_text())
        printed = (root / f"{name}.err").read_text().splitlines()
        stories[name] = code, answer, [line for line in printed if line.endswith("closes")]
    return stories


def test_a_server_whose_command_has_gone_ends_and_closes_everything(ended):
    code, answer, closed = ended["without its command"]

    assert (0, 4663) == (code, answer.ready.http_port)
    assert ["ingress closes", "node closes"] == closed


def test_a_start_that_fails_ends_what_it_has_opened(ended):
    code, answer, closed = ended["nothing ran before"]

    assert (1, "it fails when ingress starts") == (code, answer.error.message)
    assert ["ingress closes", "node closes"] == closed


def test_a_start_that_fails_leaves_running_containers_alone(ended):
    code, answer, closed = ended["a container ran before"]

    assert (1, "it fails when ingress starts") == (code, answer.error.message)
    assert [] == closed


def test_a_home_is_one_servers(tmp_path):
    settings = Settings(home=tmp_path)
    with (
        locked(settings),
        pytest.raises(Failure, match="another server uses"),
        locked(settings),
    ):
        pass
    with locked(settings):
        pass


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{}",
        "no JSON",
        '{"settings": {}, "kept": true}',
        '{"settings": {"home": "/x", "new": 1}, "kept": true}',
    ],
)
def test_a_line_of_another_version_is_refused_in_words(line):
    with pytest.raises(BadRequest, match="is another version of homeport"):
        read(line)


def test_the_server_reads_the_settings_that_a_command_writes(tmp_path):
    home = tmp_path / "häuser"
    settings = homeport.settings.load({"HOMEPORT_HOME": str(home)}, http_port=0)
    start = starting.Start(settings=settings.sent(), kept=True)

    assert (settings, True) == read(codec.line(start).decode())
