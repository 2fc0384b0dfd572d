"""Runs `homeport …` in a fork of a Python that has imported the command line, as `subprocess.run` would run it.

A command spends most of its time in the interpreter's start and in imports. Here each worker of pytest does that once:
`python -m tests.commands SOCKET` imports and waits; each command is a fork of it, with an environment, a directory and
pipes of its own, and it ends as an interpreter ends. What starts as a user starts it: `Terminal.start`, the pages of
tests/docs, the `homeport` commands in shells, and with `--soak` each command.
"""

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import selectors
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Self, TextIO

#: Variables that the command line reads when it runs. The interpreter and other libraries read theirs at their start.
OURS = ("HOMEPORT_", "MODAL_", "PYTEST_")
#: What commands import when they run.
LATER = (
    "anyio._backends._asyncio",
    "httpcore",
    "httpx",
    "rich.live",
    "rich.progress",
    "rich.table",
    "typer.rich_utils",
    "zoneinfo",
)


class Forking:
    """A process that has imported the command line; `run` runs a command in a fork of it."""

    def __init__(self, directory: Path, environ: dict[str, str]) -> None:
        self._environ = _not_ours(environ)
        self._path = str(directory / "s")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.commands", self._path],
            env=self._environ,
            cwd=Path(__file__).parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        if self._process.stdout.readline() != b"ready\n":
            raise AssertionError("the process that has imported the command line did not start")

    def can(self, environ: dict[str, str], options: dict[str, object]) -> bool:
        """Return whether a command with this environment would do the same in a fork."""
        return not set(options) - {"cwd"} and _not_ours(environ) == self._environ

    def run(
        self,
        args: Sequence[str],
        environ: dict[str, str],
        timeout: float,
        cwd: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run `homeport ARGS`; its input is empty. `TimeoutExpired` as for `subprocess.run`."""
        order = {"args": args, "environ": environ, "cwd": str(cwd or Path.cwd())}
        with socket.socket(socket.AF_UNIX) as asked, _Pipe() as out, _Pipe() as err:
            asked.settimeout(timeout)
            asked.connect(self._path)
            socket.send_fds(asked, [b"."], [out.writable, err.writable])
            asked.sendall(json.dumps(order).encode())
            asked.shutdown(socket.SHUT_WR)
            answers = asked.makefile("r")
            with answers:
                held = _held(int(answers.readline()))
                out.begin()
                err.begin()
                try:
                    code = int(answers.readline())
                    texts = [out.end(timeout), err.end(timeout)]
                except TimeoutError:
                    if held is not None:
                        with contextlib.suppress(ProcessLookupError):
                            signal.pidfd_send_signal(held, signal.SIGKILL)
                    raise subprocess.TimeoutExpired(["homeport", *args], timeout) from None
                finally:
                    if held is not None:
                        os.close(held)
        return subprocess.CompletedProcess(["homeport", *args], code, *texts)

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


class _Pipe:
    """A command's output, read by a thread as it comes."""

    def __init__(self) -> None:
        self._readable, self.writable = os.pipe()
        self._text = ""
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._thread.ident:
            os.close(self._readable)
            os.close(self.writable)

    def begin(self) -> None:
        """Read from now on; the command has the other end."""
        os.close(self.writable)
        self._thread.start()

    def end(self, timeout: float) -> str:
        """Return everything, once nobody can write any more."""
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise TimeoutError
        return self._text

    def _read(self) -> None:
        with open(self._readable, encoding="utf-8") as file:
            self._text = file.read()


def _held(pid: int) -> int | None:
    """Return a descriptor of a process, for its id may be another's once it has ended; None if it has ended."""
    with contextlib.suppress(ProcessLookupError):
        return os.pidfd_open(pid)
    return None


def _not_ours(environ: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if not name.startswith(OURS)}


def prepare() -> None:
    """Import what commands import."""
    for name in ("homeport.cli", "homeport.client"):
        for module in pkgutil.iter_modules(importlib.import_module(name).__path__, f"{name}."):
            importlib.import_module(module.name)
    for name in LATER:
        importlib.import_module(name)
    with contextlib.suppress(ImportError):
        # Only some versions of typer have it: it imports pydantic.
        importlib.import_module("typer._adapters")


def serve(path: str) -> tuple[dict, list[int]] | None:
    """Fork for each order; return in each fork with its order and pipes, and in this process when nobody asks any more."""
    with socket.socket(socket.AF_UNIX) as listener, selectors.DefaultSelector() as selector:
        listener.bind(path)
        listener.listen(16)
        selector.register(listener, selectors.EVENT_READ)
        selector.register(0, selectors.EVENT_READ)
        print("ready", flush=True)
        while True:
            for key, _ in selector.select():
                if key.fd == 0:
                    return None
                if key.data is None:
                    asked, _ = listener.accept()
                    if order := _begin(asked, selector):
                        return order
                else:
                    _end(key, selector)


def _begin(asked: socket.socket, selector: selectors.BaseSelector) -> tuple[dict, list[int]] | None:
    _, pipes, _, _ = socket.recv_fds(asked, 1, 2)
    with asked.makefile("rb") as file:
        order = json.load(file)
    if pid := os.fork():
        for fd in pipes:
            os.close(fd)
        asked.sendall(f"{pid}\n".encode())
        selector.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, asked))
        return None
    for key in selector.get_map().values():
        if key.data is not None:
            os.close(key.fd)
            key.data[1].close()
    asked.close()
    return order, pipes


def _end(key: selectors.SelectorKey, selector: selectors.BaseSelector) -> None:
    pid, asked = key.data
    selector.unregister(key.fd)
    os.close(key.fd)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with asked:
        asked.sendall(f"{code}\n".encode())


def become(order: dict, pipes: list[int]) -> None:
    """Become the command: its arguments, environment, directory and standard streams."""
    null = os.open(os.devnull, os.O_RDONLY)
    for fd, target in zip([null, *pipes], range(3), strict=True):
        os.dup2(fd, target)
        os.close(fd)
    # These decide once whether they can seek, and the streams of this process may have been files.
    sys.stdin = sys.__stdin__ = _stream(0, "r")
    sys.stdout = sys.__stdout__ = _stream(1, "w")
    sys.stderr = sys.__stderr__ = _stream(2, "w", 1, "backslashreplace")
    os.environ.clear()
    os.environ.update(order["environ"])
    os.chdir(order["cwd"])
    sys.path[0] = order["cwd"]
    # It says how to call it by these.
    sys.modules["__main__"] = program = importlib.import_module("homeport.__main__")
    sys.argv = [str(program.__file__), *order["args"]]


def _stream(fd: int, mode: str, buffering: int = -1, errors: str = "strict") -> TextIO:
    return os.fdopen(fd, mode, buffering, errors=errors, closefd=False)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for pytest
    prepare()
    gc.collect()
    gc.freeze()  # a fork that looks at an object has to copy its page
    if given := serve(sys.argv[1]):
        signal.signal(signal.SIGINT, signal.default_int_handler)
        become(*given)
        from homeport.__main__ import main

        main()
