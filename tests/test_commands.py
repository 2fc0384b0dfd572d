"""A command in a fork does what it does in a Python of its own."""

import os
import subprocess
import sys

import pytest

from tests.commands import Forking
from tests.waiting import PATIENCE_S


@pytest.fixture(scope="module")
def forking(tmp_path_factory):
    forking = Forking(tmp_path_factory.mktemp("commands"), dict(os.environ))
    yield forking
    forking.close()


@pytest.mark.parametrize(
    "words", [["--version"], ["no-such-command"], ["deploy", "not/there.py"]], ids=lambda w: w[0]
)
def test_a_fork_prints_and_ends_as_a_python_does(forking, tmp_path, words):
    environ = {**os.environ, "HOMEPORT_HOME": str(tmp_path / "home")}
    argv = [sys.executable, "-m", "homeport", *words]
    own = subprocess.run(argv, env=environ, cwd=tmp_path, capture_output=True, text=True)
    done = forking.run(words, environ, PATIENCE_S, cwd=tmp_path)

    assert (own.returncode, own.stdout, own.stderr) == (done.returncode, done.stdout, done.stderr)
    assert done.stdout + done.stderr


def test_each_fork_has_its_own_environment(forking, tmp_path):
    told = [
        forking.run(
            ["config", "show"], {**os.environ, "HOMEPORT_HOME": str(tmp_path / name)}, PATIENCE_S
        )
        for name in ("one", "two")
    ]

    assert [0, 0] == [done.returncode for done in told]
    assert str(tmp_path / "one") in told[0].stdout
    assert str(tmp_path / "two") in told[1].stdout
    assert os.environ.get("HOMEPORT_HOME") is None


def test_a_variable_of_the_interpreter_needs_an_interpreter(forking):
    assert forking.can({**os.environ, "HOMEPORT_HOME": "/x"}, {"cwd": "/"})
    assert not forking.can({**os.environ, "PYTHONUTF8": "1"}, {})
    assert not forking.can(dict(os.environ), {"preexec_fn": print})
