"""Loads a user's script in another process and reads its manifest (sdk/declare/__main__.py)."""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from homeport.cli import ahead, signals
from homeport.contract import codec
from homeport.contract.declaring import Answer, Declared, Load, Warm
from homeport.contract.errors import BadRequest, Failure, ScriptError
from homeport.contract.sizes import MIB

MAX_LINE = 256 * MIB  # a manifest with very many files


async def declare(ref: str, *, module: bool = False, name: str = "") -> Declared:
    """Load the script in a fresh interpreter; `ScriptError` if it cannot be loaded.

    The script's output goes to stderr, so that the command's own output has no other text.
    """
    async with _Loader(load=Load(ref=ref, module=module, name=name)) as loader:
        answer = await loader.whole()
        return _declared(ref, *answer)


class Declarer:
    """Loads one script again and again; after the first time by a fork of a warm loader, which has its imports."""

    def __init__(self, ref: str, *, module: bool, name: str) -> None:
        self._ref, self._module, self._name = ref, module, name
        self._modules: dict[str, None] = {}  # in order
        self._new: list[
            str
        ] = []  # modules of the last run that the warm loader may not have imported yet
        self._unsafe: set[str] = set()
        self.watch: dict[str, tuple[int, ...]] = {}  # the files whose change needs a reload
        self._loader: _Loader | None = None
        self._starting: asyncio.Task[None] | None = None

    async def declare(self) -> Declared:
        """Load the script as `declare` does; update `watch` also if that fails."""
        loader, self._loader = self._loader, None
        load = Load(ref=self._ref, module=self._module, name=self._name)
        if loader is None:
            async with _Loader(load=load) as fresh:
                answer, code = await fresh.whole()
        else:
            try:
                answer, code = await loader.answer(load)
            except BaseException as error:
                if not isinstance(error, asyncio.CancelledError) or loader.ended:
                    await loader.close()
                else:
                    self._loader = loader
                raise
            self._loader = loader
        if answer.declared is not None:
            self.watch = answer.watch
        else:  # files that were not reached this time still count
            self.watch |= answer.watch
        declared = _declared(self._ref, answer, code)
        self._unsafe.update(declared.unlike)
        self._new += declared.modules
        if declared.unlike and self._loader is not None:
            await self._loader.close()  # another one takes its place, without those
            self._loader = None
        if self._loader is not None:
            self.learn()
        return declared

    async def close(self) -> None:
        """End the warm loader."""
        if self._starting is not None:
            self._starting.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await self._starting
        if self._loader is not None:
            await self._loader.close()

    def learn(self) -> None:
        """Start a warm loader in the background; its imports take as long as the script's."""
        new = [module for module in self._new if module not in self._modules]
        self._new.clear()
        busy = self._starting is not None and not self._starting.done()
        if busy or (self._loader is not None and not new):
            return
        self._modules |= dict.fromkeys(new)
        self._starting = asyncio.create_task(self._start(list(self._modules)))

    async def _start(self, modules: list[str]) -> None:
        """Start a warm loader with these modules, or with as many of them as can be forked."""
        if sys.platform != "linux":
            return
        while True:
            loader = await _Loader("--stay").__aenter__()
            try:
                safe = [module for module in modules if not self._spoils(module)]
                await loader.ask(Warm(modules=tuple(safe)))
                answer = await loader.next()
            except BaseException:
                await loader.close()
                raise
            if answer.ready:
                before, self._loader = self._loader, loader
                if before is not None:
                    await before.close()
                return
            await loader.close()
            if not answer.unsafe:
                return
            self._unsafe.add(answer.unsafe)

    def _spoils(self, module: str) -> bool:
        return any(module == name or module.startswith(f"{name}.") for name in self._unsafe)


class _Loader:
    """A process of sdk/declare/__main__.py."""

    def __init__(self, *words: str, load: Load | None = None) -> None:
        """With `load` it loads that script in its fresh interpreter; else `words` are its arguments."""
        self._words = words
        self._load = load
        self._process: subprocess.Popen[bytes] | None = None
        self._reader = asyncio.StreamReader(limit=MAX_LINE)
        self._transport: asyncio.BaseTransport | None = None
        self._owes = False  # True if the exit code of the last fork was not read yet
        self._may_end = False  # True if it has answered, and ends by itself
        self.ended = False

    async def __aenter__(self) -> Self:
        check_directory()
        loader = ahead.take() if self._load is not None else None
        if loader is not None:
            self._process, answers = loader.process, loader.answers
        else:
            words = self._words if self._load is None else ("--ahead",)
            self._process, answers = ahead.start(*words)
        loop = asyncio.get_running_loop()
        pipe = os.fdopen(answers, "rb")
        if self._load is not None:
            self._write(self._load)
            assert self._process.stdin is not None
            with contextlib.suppress(OSError):
                self._process.stdin.close()  # the script reads nothing there
        self._transport, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(self._reader), pipe
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _write(self, message: Warm | Load) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # it has ended: the next `line` is empty
            self._process.stdin.write(codec.line(message))
            self._process.stdin.flush()

    async def ask(self, message: Warm | Load) -> None:
        """Write a line to its standard input."""
        await asyncio.to_thread(self._write, message)  # it may be longer than the pipe

    async def whole(self) -> tuple[Answer, int]:
        """Return the answer of a loader of one script, and its exit code if it had none.

        What the script does at its exit runs beside the command.
        """
        answer = read(await self.line())
        if answer.declared is None and answer.error is None:
            return answer, await self.code()
        self._may_end = True
        return answer, 0

    async def answer(self, load: Load) -> tuple[Answer, int]:
        """Return a fork's answer, and its exit code if it had none; end the fork if cancelled."""
        await self._settle()
        await self.ask(load)
        self._owes = True
        pid = 0
        try:
            pid = (await self.next()).pid
            if not pid:
                return Answer(), 1
            answer = await self.next()
        except asyncio.CancelledError:
            self.ended = not pid  # without its pid, the fork cannot be ended alone
            if pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            raise
        if answer.code is None:
            return answer, 0
        self._owes = False
        return Answer(), answer.code

    async def _settle(self) -> None:
        while self._owes and not self.ended:
            self._owes = (await self.next()).code is None

    async def next(self) -> Answer:
        """Return a warm loader's next answer; an empty one if it has ended.

        Half a line of a fork that was killed is left out: the exit code follows.
        """
        while line := await self.line():
            with contextlib.suppress(ValueError, TypeError, KeyError):
                return codec.loads(Answer, line)
        return Answer()

    async def line(self) -> bytes:
        """Return one line of its answer; empty if it has ended without one."""
        text = await self._reader.readline()
        self.ended = self.ended or not text
        return text

    async def code(self) -> int:
        """Its exit code."""
        assert self._process is not None
        return await asyncio.to_thread(self._process.wait)

    async def close(self) -> None:
        """End it and its child processes."""
        if self._transport is not None:
            self._transport.close()
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        if self._process is not None and self._may_end:
            # This process ends after it: what the script registered for its exit runs whole (see `end_with_parent`).
            threading.Thread(target=self._process.wait, name="script's end").start()
        elif self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await asyncio.to_thread(self._process.wait)


def check_directory() -> None:
    """Raise `BadRequest` if the current directory was removed: no script could be loaded there."""
    try:
        os.getcwd()  # noqa: PTH109
    except FileNotFoundError:
        raise BadRequest(
            "the current directory does not exist any more", hint="`cd` to another one"
        ) from None


def quote(failure: Failure, paths: Iterable[str]) -> None:
    """Add the script's line to a failure that the server found, which names only `script.py:7`."""
    place = re.fullmatch(r"(.+\.py):(\d+)", failure.where)
    if place is None:
        return
    path = next((path for path in paths if f"/{path}".endswith(f"/{place[1]}")), "")
    with contextlib.suppress(OSError, IndexError):
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
        failure.where += f"  {lines[int(place[2]) - 1].strip()}"


def read(line: bytes) -> Answer:
    """Return a loader's answer; an empty one if it has ended without a line."""
    try:
        return codec.loads(Answer, line) if line else Answer()
    except (ValueError, TypeError, KeyError):
        raise ScriptError(
            "what loaded the script is another version of homeport, or was cut off: its answer cannot be read",
            hint="run it again; while homeport is being reinstalled, two versions can meet",
        ) from None


def _declared(ref: str, answer: Answer, code: int) -> Declared:
    if answer.error is not None:
        raise answer.error.failure()
    if answer.declared is None:
        by = f"was ended by {signals.name(-code)}" if code < 0 else f"ended with exit code {code}"
        raise ScriptError(
            f"the process that loads `{ref}` {by}, so what the script declares is not known",
            hint="does the script end its process (`os._exit`), or need more memory than there is?",
        )
    return answer.declared
