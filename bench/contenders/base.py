"""What a contender is: something that is installed, started, asked, and ended."""

import contextlib
import os
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import httpx
import psutil

from bench import processes, venv

APPS = Path(__file__).parents[1] / "apps"
START_S = 120.0
SETTLE_S = 1.0  # a server that has just answered still starts other things


class Can(StrEnum):
    """What not everybody can do."""

    SSE = "server-sent events"
    WEBSOCKET = "WebSocket"
    BODY = "1 GiB bodies"


class NotStarted(Exception):
    """It did not answer"""


@dataclass(frozen=True, kw_only=True)
class Running:
    """A contender that answers."""

    name: str
    url: str  # of hello, without a slash at its end
    roots: list[int]  # everything below these processes is its own
    label: processes.Label
    first_answer_s: float  # from its command to its first answer
    method: str = "GET"

    def tree(self) -> list[psutil.Process]:
        """All of its processes."""
        return processes.tree(*self.roots)

    @property
    def port(self) -> int:
        port = httpx.URL(self.url).port
        assert port is not None
        return port

    @property
    def path(self) -> str:
        """Where the app is mounted; without a slash at its end."""
        return httpx.URL(self.url).path.rstrip("/")


class Contender(ABC):
    """One of those who are measured."""

    name: str
    told: str  # how it is run
    cannot: dict[Can, str]  # and why
    app_server = False  # the limit, and no peer: it runs one app, and neither deploys nor scales it

    def __init__(self) -> None:
        self.versions: dict[str, str] = {}
        self.first_answers_s: list[float] = []  # of every start

    @abstractmethod
    def install(self) -> None:
        """Make its environment and learn its versions; `NotInstalled` where that fails."""

    @abstractmethod
    def start(self, root: Path) -> AbstractContextManager[Running]:
        """Run it until the block ends; `root` is an empty folder for what it writes."""


class Program(Contender):
    """A contender that is a command, with an environment of its own."""

    packages: list[str]
    environment: str  # the name of the folder with its packages
    cannot = {}
    path = "/"
    method = "GET"

    def install(self) -> None:
        self.folder = venv.made(self.environment, self.packages)
        names = [package.partition("[")[0] for package in self.packages]
        self.versions = venv.versions(self.folder, names)

    @abstractmethod
    def argv(self, port: int) -> list[str]:
        """Its command, run in `apps/`."""

    def environ(self, _root: Path) -> dict[str, str]:
        """What it gets beside our own environment."""
        return {}

    def label(self, _process: psutil.Process) -> str:
        """What a process of its is, in a word."""
        return "server"

    @contextmanager
    def start(self, root: Path) -> Iterator[Running]:
        port = free_port()
        log = root / "log"
        began = time.perf_counter()
        with log.open("w") as output:
            process = subprocess.Popen(
                self.argv(port),
                cwd=APPS,
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **self.environ(root)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            url = f"http://127.0.0.1:{port}{self.path}"
            try:
                answered(url, method=self.method, unless=lambda: process.poll() is not None)
            except NotStarted as error:
                told = log.read_text(errors="replace").strip()[-600:]
                raise NotStarted(f"{self.name} {error}; its log ends: {told}") from None
            first_answer_s = time.perf_counter() - began
            self.first_answers_s.append(first_answer_s)
            time.sleep(SETTLE_S)
            yield Running(
                name=self.name,
                url=url,
                roots=[process.pid],
                label=self.label,
                first_answer_s=first_answer_s,
                method=self.method,
            )
        finally:
            processes.end(process.pid)
            process.wait()


def answered(url: str, *, method: str = "GET", unless=lambda: False, within_s=START_S) -> None:
    """Wait for the first 200; `NotStarted` where it never comes."""
    deadline = time.perf_counter() + within_s
    with httpx.Client(trust_env=False, timeout=within_s) as client:
        while time.perf_counter() < deadline:
            if unless():
                raise NotStarted("has ended before it answered")
            with contextlib.suppress(httpx.TransportError):
                answer = client.request(method, url, json={} if method == "POST" else None)
                if answer.status_code == 200:
                    return
            time.sleep(0.005)
    raise NotStarted(f"did not answer within {within_s:.0f} s")


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
