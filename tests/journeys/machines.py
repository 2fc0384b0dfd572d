"""A cluster of real machines (tests/namespaces.py): a control plane on the first one, agents on the others."""

import contextlib
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest

from tests import namespaces, processes
from tests.journeys.conftest import Terminal
from tests.namespaces import Machine, Machines
from tests.waiting import PATIENCE_S, wait_for

PORT = 7600  # of a cluster's own network, so it is free
READY, SUSPECT, GONE = "ready", "suspect", "gone"


class On(Terminal):
    """A user at a terminal of a machine."""

    forking = None

    def __init__(self, machine: Machine, home: Path, changes: Mapping[str, str]) -> None:
        super().__init__(home)
        self.machine = machine
        self.environ |= {"HOMEPORT_DATABASE": "", **changes}
        if not self.environ["HOMEPORT_DATABASE"]:
            del self.environ["HOMEPORT_DATABASE"]  # PostgreSQL listens on this machine's loopback

    def close(self) -> None:
        """Turn the machine off, and take note of the ends of its commands."""
        self._tell()
        self.machine.kill()
        for command in self._commands:
            command.end()
            assert command.process.stdout is not None
            command.process.stdout.close()

    def _argv(self, args: "tuple[str | Path, ...]") -> list[str]:
        return self.machine.words(sys.executable, "-m", "homeport", *args)

    def _socket(self) -> str:
        shared = "HOMEPORT_STANDBY_ADDRESSES" in self.environ
        link = self.home / (f"run-{self.machine.name}" if shared else "run") / "control.sock"
        # Where it leads is in /tmp, which is the machine's own.
        return str(self.machine.path(link.readlink()) if link.is_symlink() else link)


class Cluster:
    """The control plane's machine, and those that have joined it."""

    def __init__(self, root: Path, machines: Machines, environ: Mapping[str, str]) -> None:
        self.machines, self._root = machines, root
        self.first = On(machines.add("first"), root / "first", environ)
        self.nodes: dict[str, On] = {}
        self.agents: dict[str, subprocess.Popen[bytes]] = {}
        self._ended: list[subprocess.Popen[bytes]] = []

    def join(self, name: str, environ: Mapping[str, str] | None = None) -> On:
        """Have one more machine join; return when it is ready."""
        self.nodes[name] = node = On(self.machines.add(name), self._root / name, environ or {})
        made = self.first.run("node", "token", "--listen", f"{self.first.machine.address}:{PORT}")
        self.start_agent(name, *shlex.split(made.stdout)[3:])
        self.until(name, READY)
        return node

    def start_agent(self, name: str, *words: str) -> None:
        """Run `homeport node join` on a machine."""
        node = self.nodes[name]
        self._root.mkdir(exist_ok=True)
        self.agents[name] = node.machine.start(
            *(sys.executable, "-m", "homeport", "node", "join", *words),
            environ=node.environ,
            log=self.log_of(name),
        )

    def kill_agent(self, name: str, number: int = signal.SIGKILL) -> None:
        """Kill an agent, and nothing else of its machine."""
        started = self.agents.pop(name)
        namespaces.program(started).send_signal(number)
        started.wait(PATIENCE_S)

    def kill_control_plane(self) -> None:
        """Kill the control plane, and nothing else of its machine."""
        (control,) = self.first.processes("homeport.control")
        control.kill()
        assert [] == processes.living(control.pid)

    def kill_machine(self, name: str) -> None:
        """Turn a machine off without a word."""
        self.nodes[name].machine.kill()
        self.agents.pop(name).wait(PATIENCE_S)

    def log_of(self, name: str) -> Path:
        """Return the file of what an agent says."""
        return self._root / f"{name}.log"

    def healths(self) -> dict[str, str]:
        """Return what the control plane says of each machine that has joined."""
        return {node["name"]: node["health"] for node in self.first.ask("/v1/nodes")["nodes"]}

    def until(self, name: str, health: str) -> float:
        """Wait for a machine's health; return the seconds."""
        began = time.monotonic()
        wait_for(lambda: self.healths().get(name) == health, f"`{name}` to be {health}")
        return time.monotonic() - began

    def close(self) -> None:
        for name in self.nodes:
            with contextlib.suppress(OSError):
                print(f"--- {name}\n{self.log_of(name).read_text()[-3000:]}")
        for terminal in (*self.nodes.values(), self.first):
            with contextlib.suppress(psutil.Error):
                terminal.close()
        for agent in self.agents.values():
            agent.wait(PATIENCE_S)


@contextlib.contextmanager
def cluster(root: Path, environ: Mapping[str, str] | None = None) -> Iterator[Cluster]:
    """Yield a cluster whose control plane runs, with these variables; afterwards no process of it is left."""
    if why := namespaces.lacks():
        pytest.skip(why)
    with Machines() as machines:
        made = Cluster(root, machines, environ or {})
        try:
            made.first.run("up")
            yield made
        finally:
            made.close()
