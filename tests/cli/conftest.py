"""Commands as a user types them, with the API that a server has: its machine and its HAProxy are fakes."""

import asyncio
import contextlib
import functools
import os
import re
import subprocess
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from homeport import settings
from homeport.contract import codec
from homeport.contract.capacity import Capacity
from tests import commands
from tests.control.api.served import Server, on_a_socket
from tests.control.plane import Plane
from tests.fakes import FakeNode
from tests.waiting import PATIENCE_S


class User:
    """A user who types commands."""

    def __init__(self, home: Path, forking: commands.Forking) -> None:
        self._home, self._forking = home, forking

    async def run(
        self, *words: object, code: int = 0, cwd: Path | None = None, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `homeport WORDS`, and check its exit code."""
        every = {**os.environ, "HOMEPORT_HOME": str(self._home), "COLUMNS": "200", **environ}
        argv = [str(word) for word in words]
        done = await asyncio.to_thread(self._forking.run, argv, every, PATIENCE_S, cwd)
        assert code == done.returncode, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        assert "--json" not in argv or "✓" not in done.stderr, "JSON has said it"
        return done

    async def refused(self, *words: object, code: int = 1) -> str:
        """Run a command that fails; return what it says. It prints no data then."""
        done = await self.run(*words, code=code)
        assert not done.stdout
        return done.stderr


class Answered(User):
    """A user, and what their commands have asked the server."""

    def __init__(self, home: Path, forking: commands.Forking) -> None:
        super().__init__(home, forking)
        self.asked: list[str] = []


class Typed(User):
    """A user, and the control plane that answers them."""

    def __init__(
        self, home: Path, forking: commands.Forking, plane: Plane, server: Server, node: FakeNode
    ) -> None:
        super().__init__(home, forking)
        self.plane, self.server, self.node = plane, server, node


@pytest.fixture(scope="session")
def forking(tmp_path_factory):
    """A process that has imported the command line: each command is a fork of it."""
    forking = commands.Forking(tmp_path_factory.mktemp("commands"), dict(os.environ))
    yield forking
    forking.close()


@pytest.fixture
def typed(home, forking):
    """Return a `Typed`, as a context manager; a test may bring a node of its own."""
    return functools.partial(_typed, home, forking)


@contextlib.asynccontextmanager
async def _typed(home: Path, forking: commands.Forking, node: Any = None) -> AsyncIterator[Typed]:
    node = node or FakeNode(0.01, capacity=Capacity(cores=4, memory_mib=4096, has_mounts=True))
    plane = Plane(home, node)
    async with plane, on_a_socket(plane, home) as server:
        yield Typed(home, forking, plane, server, node)


@pytest.fixture
def answered(home, forking):
    """Return an `Answered` user whose server gives these answers, by method and path, as a context manager."""
    return functools.partial(_answered, home, forking)


@contextlib.asynccontextmanager
async def _answered(
    home: Path, forking: commands.Forking, answers: Mapping[str, object]
) -> AsyncIterator[Answered]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        # A body that is not read would reset the connection at its end.
        sent = re.search(r"^content-length: (\d+)", head, re.IGNORECASE | re.MULTILINE)
        await reader.readexactly(int(sent[1]) if sent else 0)
        method, target, _ = head.split(" ", 2)
        user.asked.append(f"{method} {target}")
        body = codec.dumps(answers[f"{method} {target.partition('?')[0]}"]).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body)
        writer.close()

    user = Answered(home, forking)
    path = settings.load({"HOMEPORT_HOME": str(home)}).control_socket
    path.parent.mkdir(parents=True, exist_ok=True)
    async with await asyncio.start_unix_server(answer, path):
        yield user
