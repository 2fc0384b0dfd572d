"""What takes long has one live line on a terminal, and plain lines elsewhere; text of builds is data."""

import os
import signal
import subprocess
import sys

import pytest

from tests.terminals import Terminal

NASTY = "\\x1b]0;owned\\x07\\x1b[2J\\x9b31m\\u202e"
SHOWS = f"""
import sys
from homeport.cli import live, output
from homeport.contract.api.events import progress
from homeport.contract.output import step

def told(builds, name):
    builds.show(progress(step(1, 2, "debian_slim", name)))
    builds.show(progress("debian_slim: Python 3.12"))
    builds.show(progress(step(2, 2, "uv_pip_install", name)))
    for number in range(50):
        builds.show(progress(f"uv_pip_install: package {{number}} {NASTY}"))
    builds.show(progress("\\r12 MiB fetched {NASTY}"))

def wait():
    print("now?", flush=True)
    sys.stdin.readline()
"""
WORKS = """
builds = live.Builds("deploying `shop`", every="--build-log" in sys.argv, plain="--json" in sys.argv).begin()
told(builds, "price")
wait()
builds.show(progress(step(0, 2, "", "price")))
output.out().print("a line of data")
output.say("a word")
builds.show(progress("`price` is ready"))
builds.end()
"""
FAILS = """
builds = live.Builds()
told(builds, "price")
wait()
builds.fail()
output.say("error: it fails")
"""
GOES_ON = """
with live.line("stopping `shop`") as line:
    while line._progress is None:
        pass
    print("it goes on", flush=True)
    __import__("time").sleep(600)
"""
ELSEWHERE = [{"NO_COLOR": "1"}, {"CI": "true"}, {"TERM": "dumb"}]


@pytest.fixture
def terminal():
    """Run a script on a terminal; what still runs is ended."""
    started = []

    def start(script: str, *words: str, echo: bool = False, **environ: str) -> Terminal:
        kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "CI")}
        started.append(
            Terminal([sys.executable, "-c", SHOWS + script, *words], {**kept, **environ}, echo=echo)
        )
        return started[-1]

    yield start
    for each in started:
        if each.process.returncode is None:
            each.process.kill()
            each.end()


def shown(running: Terminal) -> list[str]:
    """Return what the screen shows at the end."""
    running.wait_for("now?")
    running.press(b"\n")
    assert 0 == running.end()
    return [line for line in running.shown if line not in ("", "now?")]


def test_an_image_that_is_built_has_one_line_with_its_steps(terminal):
    running = terminal(WORKS)
    running.wait_for("12 MiB fetched")
    while_it_builds = [line for line in running.shown if line and line != "now?"]

    (line,) = while_it_builds
    assert "image of `price`: step 2 of 2, uv_pip_install" in line
    assert ["✓ image of `price`: built", "a line of data", "a word", "`price` is ready"] == shown(running)  # fmt: skip


def test_a_build_that_fails_shows_all_that_it_has_printed(terminal):
    lines = shown(terminal(FAILS))

    assert "debian_slim: Python 3.12" == lines[0]
    assert 51 == len(lines[:-1])
    assert "uv_pip_install: package 49" in lines[-2]
    assert "error: it fails" == lines[-1]


@pytest.mark.parametrize("environ", ELSEWHERE)
def test_lines_do_not_move_where_they_should_not(terminal, environ):
    running = terminal(WORKS, **environ)
    lines = shown(running)

    assert b"\x1b[2K" not in running.written
    assert "image of `price`: step 1 of 2, debian_slim" == lines[0]
    assert 50 == len([line for line in lines if "package" in line])


@pytest.mark.parametrize("flag", ["--build-log", "--json"])
def test_a_flag_shows_each_line_of_a_build(terminal, flag):
    lines = shown(terminal(WORKS, flag))

    assert 50 == len([line for line in lines if "package" in line])
    assert "fetched" not in "".join(lines)


def test_without_a_terminal_there_are_plain_lines():
    words = [sys.executable, "-c", SHOWS + WORKS]
    done = subprocess.run(words, input="\n", capture_output=True, text=True, check=True)

    assert "\x1b" not in done.stdout + done.stderr
    assert ["now?", "a line of data"] == done.stdout.splitlines()
    assert 50 == done.stderr.count("uv_pip_install: package")
    assert done.stderr.endswith("image of `price`: built\na word\n`price` is ready\n")


@pytest.mark.parametrize("script", [WORKS, FAILS])
def test_text_of_a_build_does_nothing_to_the_terminal(terminal, script):
    running = terminal(script)
    running.wait_for("12 MiB fetched")
    shown(running)

    assert b"\x1b]" not in running.written
    assert b"\x1b[2J" not in running.written
    assert "\u202e".encode() not in running.written
    assert b"12 MiB fetched \\x1b]0;owned" in running.written


@pytest.mark.parametrize(
    "ends", [b"\x03", signal.SIGTERM, signal.SIGKILL], ids=["Ctrl-C", "SIGTERM", "SIGKILL"]
)
def test_the_terminal_is_whole_however_a_command_ends(terminal, ends):
    running = terminal(GOES_ON, echo=True)
    running.wait_for("it goes on")
    if isinstance(ends, bytes):
        running.press(ends)
    else:
        running.process.send_signal(ends)
    running.end()

    assert not running.screen.cursor.hidden
    assert b"\x1b[?25l" not in running.written
    if ends == b"\x03":
        assert "stopping" not in "".join(running.shown)


def test_a_task_that_is_over_at_once_has_no_live_line(terminal):
    running = terminal("with live.line('uploading files') as line:\n    line.sized(5, 10)\nwait()")

    assert [] == shown(running)
    assert b"uploading" not in running.written


@pytest.mark.parametrize(
    ("total", "told"), [(7 << 20, ""), (9 << 20, "uploading files: 9.0 MiB\n")]
)
def test_a_big_upload_has_one_plain_line_without_a_terminal(total, told):
    script = (
        f"with live.line('uploading files') as line:\n    for n in range(9): line.sized(n, {total})"
    )
    words = [sys.executable, "-c", SHOWS + script]
    done = subprocess.run(words, capture_output=True, text=True, check=True)

    assert told == done.stderr
