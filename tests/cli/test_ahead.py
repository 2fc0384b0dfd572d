"""The process that loads a script begins before the command line is imported."""

import os

import pytest

from homeport.cli import ahead, script

SCRIPT = """
import os, sys
import modal
app = modal.App(f"app-{os.getpid()}")
print(sys.stdin.read() or "nothing to read")
"""


@pytest.fixture
def begun():
    """What was begun ends with the test."""
    yield lambda: ahead._begun
    if (left := ahead.take()) is not None:
        os.close(left.answers)
        left.process.communicate(timeout=60)


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
    process.communicate(timeout=60)

    assert process.returncode == 0


def test_a_process_with_other_variables_than_the_command_is_not_used(begun, monkeypatch):
    ahead.begin(["serve", "script.py"])
    process = begun().process
    monkeypatch.setenv("HOMEPORT_ENVIRONMENT", "staging")

    assert ahead.take() is None
    assert process.returncode is not None


@pytest.mark.parametrize("words", [[], ["status"], ["run", "script.py"], ["deploy", "--help"]])
def test_other_commands_begin_nothing(begun, words):
    ahead.begin(words)

    assert begun() is None
