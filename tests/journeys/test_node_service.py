"""A machine that joins as a service: a Debian with a real systemd, and the server beside it, which shares its network."""

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import machines
from tests.journeys.test_nodes import APP, until_connected, until_ready
from tests.journeys.test_service import repository
from tests.machines import Machine
from tests.waiting import wait_for

UNIT = "homeport-node.service"
LOCK = "var/lib/homeport/lock"

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(machines.lacks() != "", reason=machines.lacks()),
]


@pytest.fixture
def machine(tmp_path) -> Iterator[Machine]:
    """A fresh Debian with homeport."""
    root = machines.debian(tmp_path, f"{machines.PACKAGES},python3-venv,uidmap")
    (root / "etc/hostname").write_text("worker\n")
    made = Machine(tmp_path)
    made.boot()
    repository(made, root / "root/homeport")
    made.run("python3", "-m", "venv", "/usr/local/lib/homeport")
    made.run("/usr/local/lib/homeport/bin/pip", "install", "/root/homeport")
    yield made
    made.halt()


def test_a_node_that_is_a_service_starts_with_its_machine_and_survives_its_agent(
    terminal, machine: Machine, tmp_path: Path
):
    terminal.environ["HOMEPORT_NODE_NETWORKS"] = "127.0.0.0/8"
    terminal.run("up")
    homeport = "/usr/local/lib/homeport/bin/homeport"
    words = shlex.split(terminal.run("node", "token", "--listen", "127.0.0.1:0").stdout)[1:]
    wrong = [*words[:-1], f"{words[-1][:-4]}0000"]
    refused = machine.run(homeport, *wrong, "--name", "worker", "--service", check=False)
    assert "this machine could not join: the token is unknown" in refused
    machine.run(homeport, *words, "--name", "worker", "--label", "region=eu", "--service")
    node = until_ready(terminal)
    assert ("worker", {"region": "eu"}) == (node["name"], node["labels"])
    assert f"{UNIT}: active (running)" in machine.run(homeport, "service", "status")
    script = tmp_path / "spread.py"
    script.write_text(APP)
    terminal.deploy(script)
    (there,) = wait_for(
        lambda: [
            c for c in terminal.containers() if (c["node"], c["state"]) == ("worker", "ready")
        ],
        "a container there",
    )

    # The agent is killed, and then replaced by an upgrade: its containers continue.
    before = (machine.root / LOCK).read_text()
    machine.run("sh", "-c", f"kill -9 {before.strip()}")
    until_connected(terminal, 2)
    machine.run(homeport, "service", "upgrade", "--from", "/root/homeport")
    assert before != (machine.root / LOCK).read_text()
    until_connected(terminal, 3)
    assert there["id"] in [container["id"] for container in terminal.containers()]

    machine.halt()
    machine.boot()
    until_connected(terminal, 4)

    terminal.run("node", "remove", "worker", "-y")
    ended = ("systemctl", "is-active", UNIT)
    wait_for(lambda: "inactive" in machine.run(*ended, check=False), "the end of the service")
    machine.run("systemctl", "restart", UNIT)
    assert "inactive" in machine.run(*ended, check=False), "a machine that was removed is no node"
    machine.run(homeport, "service", "uninstall", "--purge", "--yes")
    assert not (machine.root / "var/lib/homeport").exists()
