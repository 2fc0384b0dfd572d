"""A server that is stopped, or takes too long to end, is named; nobody waits for it without end."""

import contextlib
import fcntl
import importlib
import socket
import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest

from homeport import settings
from homeport.cli import server
from homeport.contract.errors import ServerUnreachable
from tests import ports


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    """The settings of a home whose server takes connections, and answers nothing."""
    # `homeport.client` as an attribute is a name of the SDK's.
    monkeypatch.setattr(importlib.import_module("homeport.client.server"), "ANSWER_S", 0.2)
    told = settings.load({"HOMEPORT_HOME": str(tmp_path)})
    told.control_socket.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(told.control_socket))
        listener.listen()
        yield told
    told.control_socket.unlink()


@pytest.fixture
def answering(monkeypatch):
    """Give commands a server whose status this coroutine function returns; what is asked to end is in `ended`."""

    def answering(status, ended=None):
        async def shutdown():
            if ended is not None:
                ended.append(True)

        @contextlib.asynccontextmanager
        async def client(_settings):
            yield SimpleNamespace(server=SimpleNamespace(status=status, shutdown=shutdown))

        monkeypatch.setattr(server, "_client", client)

    return answering


async def test_status_says_that_the_server_does_not_answer(stopped):
    async with server.running(stopped) as asked:
        with pytest.raises(ServerUnreachable, match=r"listens at .*, and does not answer"):
            await asked.server.status()


async def test_down_does_not_take_it_for_no_server(stopped):
    with pytest.raises(ServerUnreachable, match="and does not answer"):
        await server.down(stopped)


async def test_down_says_no_where_there_is_none(tmp_path):
    assert not await server.down(settings.load({"HOMEPORT_HOME": str(tmp_path)}))


async def test_down_does_not_take_a_server_elsewhere_that_cannot_be_reached_for_none(tmp_path):
    variables = {
        "HOMEPORT_HOME": str(tmp_path),
        "HOMEPORT_SERVER": f"http://127.0.0.1:{ports.free_port()}",
        "HOMEPORT_TOKEN": "t",
    }
    with pytest.raises(ServerUnreachable):
        await server.down(settings.load(variables))


@pytest.mark.parametrize("begins", [True, False])
async def test_down_waits_for_a_server_that_starts_or_ends(tmp_path, answering, begins):
    """It has the home's lock, and does not answer yet, or any more."""
    looks, ended = [], []

    async def status():
        looks.append(begins)
        if len(looks) == 3:
            if begins:
                return SimpleNamespace(pid=0, nodes={})
            lock.close()
        raise ServerUnreachable("no socket")

    answering(status, ended)
    told = settings.load({"HOMEPORT_HOME": str(tmp_path)})
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        assert begins == await server.down(told)
    assert (3, begins) == (len(looks), bool(ended))


async def test_an_agent_that_has_the_lock_is_no_server(tmp_path):
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster/joined.json").write_text("{}")
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)

        assert not await server.down(settings.load({"HOMEPORT_HOME": str(tmp_path)}))


async def test_down_names_a_home_whose_server_never_answers(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "PATIENCE_S", 0.1)
    told = settings.load({"HOMEPORT_HOME": str(tmp_path)})
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(
            ServerUnreachable, match=r"another server holds .*, and does not answer"
        ):
            await server.down(told)


async def test_machines_that_do_not_answer_at_the_end_are_named(tmp_path, answering):
    async def status():
        nodes = {"a": "ready", "b": "gone", "c": "drained", "d": "suspect"}
        return SimpleNamespace(pid=0, nodes=nodes)

    answering(status)
    unreached: list[str] = []

    assert await server.down(settings.load({"HOMEPORT_HOME": str(tmp_path)}), unreached)
    assert ["b", "d"] == unreached


async def test_a_server_that_does_not_end_is_named_by_its_pid(tmp_path, monkeypatch, answering):
    """And not with a traceback of ours."""
    monkeypatch.setattr(server, "END_S", 0.1)

    async def status():
        return SimpleNamespace(pid=waits.pid)

    answering(status)
    told = settings.load({"HOMEPORT_HOME": str(tmp_path)})
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
    ) as waits:
        with pytest.raises(ServerUnreachable, match=rf"pid {waits.pid}.* has not within 0.1 s"):
            await server.down(told)
        waits.stdin.close()
        monkeypatch.setattr(server, "END_S", 60)
        assert await server.down(told)
        assert "zombie" == psutil.Process(waits.pid).status(), "its parent takes note only now"
