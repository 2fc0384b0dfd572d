"""The processes that a command needs begin before the command line is imported."""

import os
import signal
import socket

import pytest

from homeport import settings as all_settings
from homeport.cli import ahead, script

SCRIPT = """
import os, sys
import modal
app = modal.App(f"app-{os.getpid()}")
print(sys.stdin.read() or "nothing to read")
"""


@pytest.fixture
def begun(tmp_path, monkeypatch):
    """What was begun ends with the test."""
    monkeypatch.setenv("HOMEPORT_HOME", str(tmp_path / "home"))
    yield lambda: ahead._begun
    ahead.take_server(None)
    if (left := ahead.take()) is not None:
        os.close(left.answers)
        left.process.communicate(timeout=180)


async def test_the_script_is_loaded_by_the_process_that_began_ahead(tmp_path, begun, capfd):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    ahead.begin(["deploy", str(path)])
    pid = begun().process.pid

    assert (await script.declare(str(path))).name == f"app-{pid}"
    assert "nothing to read" in capfd.readouterr().err
    assert (await script.declare(str(path))).name != f"app-{pid}"  # one process loads one script


def test_a_process_that_no_command_takes_ends_with_its_standard_input(begun):
    ahead.begin(["serve", "script.py"])
    process = begun().process
    process.communicate(timeout=180)

    assert process.returncode == 0


def test_nothing_is_left_of_what_no_command_has_taken(begun):
    """Also if a process has not imported yet what would end it."""
    ahead.begin(["serve", "script.py"])
    left = [begun().process, ahead._server.process]
    ahead.end()
    ahead.end()

    assert [-signal.SIGKILL] * 2 == [process.returncode for process in left]
    assert (None, None) == (ahead._begun, ahead._server)


def test_a_process_with_other_variables_than_the_command_is_not_used(begun, monkeypatch):
    ahead.begin(["serve", "script.py"])
    process = begun().process
    monkeypatch.setenv("HOMEPORT_ENVIRONMENT", "staging")

    assert ahead.take() is None
    assert process.returncode is not None


@pytest.mark.parametrize("words", [[], ["status"], ["down"], ["deploy", "--help"]])
def test_other_commands_begin_nothing(begun, words):
    ahead.begin(words)

    assert begun() is None
    assert ahead._server is None


@pytest.mark.parametrize("command", ["deploy", "run"])
def test_a_control_plane_begins_for_the_first_that_takes_it(begun, command):
    ahead.begin([command, "script.py"])
    settings = all_settings.load(os.environ)
    process = ahead.take_server(settings)
    assert process is not None
    process.communicate(timeout=180)

    assert process.returncode == 0
    assert ahead.take_server(settings) is None


def test_no_control_plane_begins_where_one_listens(begun, tmp_path):
    settings = all_settings.load(os.environ)
    settings.control_socket.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(settings.control_socket))
        server.listen()
        ahead.begin(["run", "script.py"])

        assert ahead._server is None


def test_a_control_plane_of_another_home_or_with_other_variables_is_not_used(
    begun, tmp_path, monkeypatch
):
    for changed in ("HOMEPORT_HOME", "SOMETHING_ELSE"):
        ahead.begin(["run", "script.py"])
        process = ahead._server.process
        monkeypatch.setenv(changed, str(tmp_path / "other"))

        assert ahead.take_server(all_settings.load(os.environ)) is None
        assert process.returncode is not None
