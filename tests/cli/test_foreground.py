"""`up --foreground` with a server that is a few lines: when it is started again, killed, and cleared up after."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from homeport.cli import foreground
from homeport.contract.errors import StorageError
from homeport.contract.starting import WAITING, Ending
from tests.waiting import wait_for

SUPERVISOR = """
import os, pathlib, signal, sys
from homeport.cli.foreground import SIGNALS, Foreground
folder = pathlib.Path(sys.argv[1])
words = [sys.executable, "-S", "-c", (folder / "server.py").read_text(), str(folder)]
code = Foreground(words, os.environ, lock=folder / "lock", hand_over_s=float(sys.argv[2])).run()
assert {signal.getsignal(number) for number in SIGNALS} == {signal.SIG_DFL}, "Ctrl-C ends it from here on"
assert signal.set_wakeup_fd(-1) == -1, "a signal would be written to a file that is closed"
sys.exit(code)
"""
#: It writes down each start; `leads` is whether it leads the home, `does` what it does on SIGUSR2.
SERVER = """
import json, os, pathlib, signal, sys
folder, *words = pathlib.Path(sys.argv[1]), *sys.argv[2:]
def note(what):
    with (folder / "story").open("a") as story:
        print(what, os.getpid(), *words, file=story, flush=True)
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
does = (folder / "does").read_text()
def hand_over(*_):
    note("hands over")
    if does == "hands over":
        os._exit({handed_over})
    if does == "waits":
        signal.signal(signal.SIGTERM, lambda *_: os._exit({handed_over}))
signal.signal(signal.SIGUSR2, hand_over)
signal.signal(signal.SIGUSR1, lambda *_: os._exit({down}))
if "--end" in words:
    note("ends what is left")
    os._exit(0)
if does == "leads another" and (folder / "story").exists() and "--standby" not in words:
    note("finds another")
    error = {{"kind": "AlreadyExists", "message": "another server uses it", "hint": "", "where": "", "traceback": ""}}
    print(json.dumps({{"error": error}}), flush=True)
    os._exit(1)
(folder / "lock").write_text(f"{{os.getpid()}}\\nleads\\n")
print(json.dumps({{"ready": {{"pid": os.getpid(), "http_port": 1}}}}), flush=True)
note("is up")
while True:
    signal.pause()
"""


class Story:
    """A supervisor, and what its servers have written down."""

    def __init__(self, folder: Path, does: str, hand_over_s: float = 60.0) -> None:
        self.folder = folder
        text = SERVER.format(handed_over=int(Ending.HANDED_OVER), down=int(Ending.DOWN))
        (folder / "server.py").write_text(text)
        (folder / "does").write_text(does)
        self.process = subprocess.Popen(
            [sys.executable, "-c", SUPERVISOR, str(folder), str(hand_over_s)],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def lines(self, what: str) -> list[str]:
        with contextlib.suppress(FileNotFoundError):
            told = (self.folder / "story").read_text().splitlines()
            return [line for line in told if line.startswith(what)]
        return []

    def wait(self, what: str, count: int = 1) -> int:
        """Wait for the line; return the pid that wrote the last one."""
        lines = wait_for(lambda: len(self.lines(what)) >= count and self.lines(what), what)
        return int(lines[-1].removeprefix(what).split()[0])

    def end(self) -> int:
        self.process.terminate()
        return self.process.wait(60)


@pytest.fixture
def story(tmp_path):
    stories = []

    def story(*args, **kwargs) -> Story:
        stories.append(Story(tmp_path, *args, **kwargs))
        return stories[-1]

    yield story
    for one in stories:
        one.process.kill()
        one.process.wait()
        assert one.process.stderr is not None
        one.process.stderr.close()
        for line in one.lines("is up"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(line.split()[2]), signal.SIGKILL)


def test_a_server_that_does_not_hand_over_is_killed(story):
    up = story("hangs", hand_over_s=0.1)
    up.wait("is up")
    up.process.send_signal(signal.SIGHUP)
    up.wait("is up", 2)

    assert 0 == up.end()
    assert [] == up.lines("ends what is left")


def test_sigterm_while_the_server_hands_over_ends_what_it_leaves(story):
    up = story("waits")
    up.wait("is up")
    up.process.send_signal(signal.SIGHUP)
    up.wait("hands over")

    assert 0 == up.end()
    assert 1 == len(up.lines("ends what is left"))


def test_sigterm_between_two_servers_ends_what_the_first_has_left(story):
    up = story("waits")
    server = up.wait("is up")
    up.process.send_signal(signal.SIGSTOP)  # so that it sees both at once
    os.kill(server, signal.SIGKILL)
    up.process.terminate()
    up.process.send_signal(signal.SIGCONT)

    assert 0 == up.process.wait(60)
    assert (1, 1) == (len(up.lines("is up")), len(up.lines("ends what is left")))


def test_containers_of_another_server_are_left_alone(story):
    up = story("waits")
    server = up.wait("is up")
    (up.folder / "lock").write_text("1\nleads\n")
    up.process.send_signal(signal.SIGHUP)
    up.wait("hands over")
    ended = up.end()

    assert (0, []) == (ended, up.lines("ends what is left"))
    assert server != 1


def test_down_ends_the_supervisor_too(story):
    up = story("hands over")
    os.kill(up.wait("is up"), signal.SIGUSR1)

    assert 0 == up.process.wait(60)
    assert [] == up.lines("ends what is left")


def test_a_broken_standard_error_ends_nothing(story):
    up = story("hands over")
    up.wait("is up")
    assert up.process.stderr is not None
    up.process.stderr.close()
    for count in (2, 3):
        up.process.send_signal(signal.SIGHUP)
        up.wait("is up", count)

    assert up.process.poll() is None


def test_a_server_whose_home_another_one_leads_by_now_waits_as_its_standby(story):
    up = story("leads another")
    os.kill(up.wait("is up"), signal.SIGKILL)
    up.wait("is up", 2)

    assert 1 == len(up.lines("finds another"))
    assert up.lines("is up")[-1].endswith("--standby")


@pytest.mark.parametrize("prepare", [Path.touch, lambda home: (home / WAITING).mkdir(parents=True)])
def test_a_standby_whose_home_it_cannot_use_ends_at_once(tmp_path, prepare):
    prepare(tmp_path / "home")

    with pytest.raises(StorageError, match="home"):
        foreground.run(tmp_path / "home", {}, standby=True)
