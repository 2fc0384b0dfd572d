"""Another machine joins, is drained and removed, by the commands."""

import os
import shlex
import subprocess
import sys

import pytest

from tests import processes
from tests.journeys.conftest import Terminal
from tests.waiting import PATIENCE_S, wait_for


@pytest.fixture
def other(tmp_path):
    """A second home, as another machine has. Its HAProxy outlives an agent that is killed."""
    yield Terminal(tmp_path / "other")
    processes.end_of(tmp_path / "other")


def test_a_machine_joins_is_drained_and_removed(terminal, other):
    terminal.environ["HOMEPORT_NODE_NETWORKS"] = "127.0.0.0/8"  # the other machine is this one
    terminal.run("up")
    made = terminal.run("node", "token", "--listen", "127.0.0.1:0").stdout
    words = shlex.split(made)
    assert ["homeport", "node", "join"] == words[:3]
    agent = subprocess.Popen(
        [sys.executable, "-m", "homeport", *words[1:], "--name", "worker-1"],
        env=os.environ | other.environ,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(
            lambda: [n for n in terminal.json("node", "list") if n["health"] == "ready"], "the node"
        )
        (node,) = terminal.json("node", "list")
        assert ("worker-1", False, os.cpu_count()) == (node["name"], node["drained"], node["cores"])
        terminal.run("node", "drain", "worker-1")
        assert "drained" in terminal.run("node", "list").stdout
        terminal.run("node", "drain", "worker-1", "--undo")
        again = other.run(*words[1:], "--name", "worker-2", check=False)
        assert (1, True) == (again.returncode, "uses" in again.stderr)
        terminal.run("node", "remove", "worker-1", "-y")
        said = agent.communicate(timeout=PATIENCE_S)[1]
    finally:
        agent.kill()
        agent.wait()

    assert 1 == agent.returncode
    assert "error: the node `worker-1` was removed" in said
    assert [] == terminal.json("node", "list")
    refused = other.run("node", "join", check=False).stderr
    assert "this machine has not joined a homeport" in refused
