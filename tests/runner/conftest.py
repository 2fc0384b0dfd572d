"""A runner as the node starts it, without the node: a process, a launch, a socket."""

import contextlib
import itertools
import json
import os
import select
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import httpx
import psutil
import pytest

from homeport.contract import codec, pulse
from homeport.contract.container import Descriptors, Event, sent
from homeport.contract.manifest import WebKind, WebMethod
from homeport.node.containers import door as doors
from tests.orders import launch
from tests.waiting import wait_for

PATIENCE_S = 60.0


class Runner:
    """A runner's process, as one container has it."""

    def __init__(self, root: Path, source: Path, **changes) -> None:
        self._source = source
        self.log = root / "output.log"
        self.launch = launch(
            **{"module": "script", "source": str(source), "tmp_dir": str(root), **changes}
        )
        self._report, report = socket.socketpair()
        self._heard = b""
        door, address = doors.make("ta-1")
        self.door = doors.path(address)
        beats = pulse.create()
        self.pulse = pulse.Reader(beats)
        self.reached: list[str] = []  # the parts of its start that it has reached
        given = Descriptors(output=-1, report=report.fileno(), door=door.fileno(), pulse=beats)
        lib = root / "lib"
        lib.mkdir()
        (lib / "homeport").symlink_to(Path(codec.__file__).parents[1])
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "homeport.runner"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=lib,
                pass_fds=(report.fileno(), door.fileno(), beats),
                start_new_session=True,
                env={
                    "PATH": os.environ["PATH"],
                    **given.environ(),
                    "PYTHONUNBUFFERED": "1",
                },
            )
        os.close(beats)
        for each in (report, door):
            each.close()
        with self.process.stdin as stdin:
            stdin.write(codec.dumps(sent(self.launch)).encode() + b"\n")
        self.client = httpx.Client(
            transport=httpx.HTTPTransport(uds=self.door),
            base_url="http://example.test",
            timeout=PATIENCE_S,
        )

    def event(self) -> Event:
        """Return its next message about the start."""
        while True:
            while b"\n" not in self._heard:
                readable, _, _ = select.select([self._report], [], [], PATIENCE_S)
                assert readable, self.output
                data = self._report.recv(65536)
                assert data, f"no word, and:\n{self.output}"
                self._heard += data
            line, _, self._heard = self._heard.partition(b"\n")
            event = codec.loads(Event, line)
            if event.kind != "reached":
                return event
            self.reached.append(event.phase)

    def events(self) -> list[Event]:
        """Return all of its further messages, until it ends."""
        self._report.settimeout(PATIENCE_S)
        with contextlib.suppress(ConnectionResetError):
            while data := self._report.recv(65536):
                self._heard += data
        return [codec.loads(Event, line) for line in self._heard.splitlines()]

    def tell(self, message: dict[str, object]) -> None:
        """Send a message, as the node does."""
        self._report.sendall(json.dumps(message).encode() + b"\n")

    def ready(self) -> "Runner":
        """Wait until it is ready; return it."""
        event = self.event()
        assert "ready" == event.kind, f"{json.dumps(codec.encode(event), indent=1)}\n{self.output}"
        return self

    @property
    def output(self) -> str:
        """Return what it has printed."""
        return self.log.read_text()

    def wait_for(self, text: str) -> str:
        """Wait until it has printed a text; return its output."""
        try:
            wait_for(lambda: text in self.output, f"{text!r}")
        except AssertionError as error:
            error.add_note(self.output)
            raise
        return self.output

    def terminate(self) -> int:
        """Send SIGTERM; return the exit code."""
        self.process.terminate()
        return self.process.wait(PATIENCE_S)

    def close(self) -> None:
        """End it, and the processes that it has started in other sessions."""
        self.client.close()
        self._report.close()
        self.pulse.close()
        if self.process.poll() is None:  # else its id may be another's by now
            os.killpg(self.process.pid, 9)
        self.process.wait()
        for each in psutil.process_iter():  # no init stands above this runner to end them
            with contextlib.suppress(psutil.Error):
                if each.pid != os.getpid() and Path(each.cwd()).is_relative_to(self._source.parent):
                    each.kill()


@pytest.fixture
def start(tmp_path):
    """Start the runner on a script; `web` is the tags and kinds of its web methods."""
    runners = contextlib.ExitStack()
    numbers = itertools.count()

    def start(script: str, *, web: dict[str, str] | None = None, **changes) -> Runner:
        source = tmp_path / "source"
        source.mkdir(exist_ok=True)
        (source / "script.py").write_text(textwrap.dedent(script))
        root = tmp_path / f"r{next(numbers)}"
        root.mkdir()
        methods = tuple(
            WebMethod(
                tag=name,
                attribute=name.rpartition(".")[2],
                kind=WebKind(kind.split(":")[0]),
                port=int(kind.split(":")[1]) if ":" in kind else None,
                http_method=changes.pop("method", "GET"),
                startup_timeout_s=changes.pop("port_timeout_s", 20.0),
            )
            for name, kind in (web or {"hello": "fastapi_endpoint"}).items()
        )
        name = next(iter(web or {"hello": ""})).partition(".")[0]
        changes = {"function": name, "qualname": name, "web": methods, **changes}
        runner = Runner(root, source, **changes)
        runners.callback(runner.close)
        return runner

    with runners:
        yield start
