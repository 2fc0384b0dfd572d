"""Which HAProxy is used, and the error if no usable HAProxy is found."""

import contextlib
import json
import os
import resource
import signal
import socket
import stat
import subprocess
import sys

import psutil
import pytest

from homeport.contract.errors import IngressError
from homeport.ingress import process
from homeport.ingress.runtime import Row, parse_stats


@pytest.fixture
def fake(tmp_path):
    """Make a program that claims to be an HAProxy."""

    def fake(words: str) -> str:
        path = tmp_path / "haproxy"
        path.write_text(f"#!/bin/sh\ncat <<'E'\n{words}\nE\n")
        path.chmod(0o755)
        return str(path)

    return fake


def test_the_binary_of_the_wheel_can_be_used():
    binary = process.find("")

    assert binary.version.startswith("2.8.")
    assert binary.lua.startswith("5.")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("HAProxy version 2.6.12-1 2023\nBuilt with Lua version : Lua 5.3.6", "2.8 or newer"),
        ("HAProxy version 3.0.1 2024", "without Lua"),
        ("something else", "is not HAProxy"),
    ],
)
def test_a_binary_that_cannot_be_used_is_refused_with_the_reason_and_what_to_do(
    fake, words, message
):
    with pytest.raises(IngressError, match=message) as caught:
        process.find(fake(words))

    assert "HOMEPORT_HAPROXY" in caught.value.hint


def test_a_binary_that_is_not_there_says_so(tmp_path):
    with pytest.raises(IngressError, match="No such file"):
        process.find(str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("script", "message"),
    [("exec sleep 600", "timed out after 0.2 seconds"), ("exit 3", "exit status 3")],
)
def test_a_program_that_hangs_or_fails_is_no_haproxy(tmp_path, monkeypatch, script, message):
    monkeypatch.setattr(process, "START_S", 0.2)
    path = tmp_path / "haproxy"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)

    with pytest.raises(IngressError, match=f"is not HAProxy.*{message}"):
        process.find(str(path))


@pytest.fixture
def stubborn(tmp_path):
    """A process that stands for HAProxy, and prints that it was asked to retire."""
    text = (
        "import signal\nsignal.signal(signal.SIGUSR1, lambda *_: print('retired', flush=True))\n"
        "print('begun', flush=True)\nwhile True: signal.pause()"
    )
    popen = subprocess.Popen([sys.executable, "-c", text], stdout=subprocess.PIPE, text=True)
    assert "begun\n" == popen.stdout.readline()
    yield popen
    popen.kill()
    popen.wait()
    popen.stdout.close()


@pytest.mark.parametrize("is_child", [True, False])
async def test_a_process_is_retired_and_ended_by_its_signals(stubborn, tmp_path, is_child):
    one = process.Process(
        psutil.Process(stubborn.pid), tmp_path / "control", stubborn if is_child else None
    )
    await one.retire(["ta-1"])

    assert "retired\n" == stubborn.stdout.readline()
    assert one.running
    assert {"ta-1"} == one.containers
    one.kill()
    await one.ended()
    assert not one.running
    if is_child:  # else psutil has taken its exit code
        assert -signal.SIGKILL == stubborn.wait()
    await one.retire([])  # no error: it has ended
    assert [] == one.listeners()


def test_a_process_with_a_full_queue_listens_and_one_that_has_closed_it_does_not(tmp_path):
    """On a busy machine more may wait than there is room for."""
    path = tmp_path / "control.sock"
    with contextlib.ExitStack() as opened:
        listening = opened.enter_context(socket.socket(socket.AF_UNIX))
        listening.bind(str(path))
        listening.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                waiting = opened.enter_context(socket.socket(socket.AF_UNIX))
                waiting.setblocking(False)
                waiting.connect(str(path))

        assert process.listens(path)
        listening.close()
        assert not process.listens(path)


async def test_haproxy_gets_nothing_of_the_servers_variables_and_nobody_else_enters_its_directory(
    start, make_settings, monkeypatch
):
    monkeypatch.setenv("HOMEPORT_TOKEN", "secret")
    before = os.umask(0)
    try:
        ingress = await start()
    finally:
        os.umask(before)

    assert {"PATH"} == {*psutil.Process(ingress.pid).environ()}
    assert 0o700 == stat.S_IMODE((make_settings().run_dir / "ingress").stat().st_mode)


def test_doctor_describes_haproxy_in_json():
    environ = {**os.environ, "HOMEPORT_HAPROXY": "/nowhere/haproxy"}
    words = [sys.executable, "-m", "homeport.ingress.process"]
    good = subprocess.run(words, capture_output=True, text=True, check=True)
    bad = subprocess.run(words, env=environ, capture_output=True, text=True, check=False)

    assert json.loads(good.stdout)["version"].startswith("2.8.")
    assert "IngressError" == json.loads(bad.stdout)["error"]["kind"]


def test_statistics_are_read_by_their_names_wherever_the_columns_are():
    text = (
        "# svname,pxname,qcur,scur,stot,hrsp_5xx,status,\n"
        "ta-1,b1,0,1,7,,UP,\nBACKEND,b1,2,3,9,1,UP,\n\n"
        "# svname,pxname,qcur,scur,stot,hrsp_5xx,status,\nBACKEND,b2,,,0,0,DOWN,\n"
    )

    assert [
        Row(backend="b1", server="ta-1", queued=0, running=1, served=7, errors=0, status="UP"),
        Row(backend="b1", server="BACKEND", queued=2, running=3, served=9, errors=1, status="UP"),
        Row(backend="b2", server="BACKEND", queued=0, running=0, served=0, errors=0, status="DOWN"),
    ] == parse_stats(text)


@pytest.mark.parametrize(
    ("hard", "visitors"),
    [(256, 100), (1024, 181), (4096, 949), (524288, 20000), (resource.RLIM_INFINITY, 20000)],
)
def test_each_visitor_may_need_four_descriptors(monkeypatch, hard, visitors):
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (256, hard))

    assert visitors == process.max_connections()
