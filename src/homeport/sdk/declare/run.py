"""`python -m homeport.sdk.declare.run REF … -- WORDS`: loads a script for `homeport run`, and runs it.

The command starts it in the user's interpreter, with the terminal as its standard streams. It chooses what to run,
reads the words after `--`, and writes the app's manifest as a line of JSON to the first descriptor of
HOMEPORT_RUN_FDS (contract/declaring.py). When the command has started the app's session, it reads `Go` from
the second one, and calls the local entrypoint or the function. Its exit code is that of `homeport run`.
"""

import argparse
import asyncio
import inspect
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from homeport.contract import codec
from homeport.contract.api.answers import Fault
from homeport.contract.declaring import Answer, Go
from homeport.contract.errors import Failure, ScriptError
from homeport.sdk import context
from homeport.sdk.declare import __main__ as declaring
from homeport.sdk.declare import runnable
from homeport.sdk.declare.arguments import Arguments
from homeport.sdk.objects.app import App, LocalEntrypoint
from homeport.sdk.objects.cls import Cls
from homeport.sdk.tracebacks import users_traceback

INTERRUPTED = 130  # 128 + SIGINT, as in a shell
TWICE_S = 1.0  # a terminal and the command both send the Ctrl-C that a user has pressed once


def main() -> int:
    """Load the script, wait for `Go`, and run; return the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("ref")
    parser.add_argument("-m", dest="module", action="store_true")
    parser.add_argument("--name", default="")
    parser.add_argument("--write", default="")
    cut = sys.argv.index("--")
    options = parser.parse_args(sys.argv[1:cut])
    options.words = sys.argv[cut + 1 :]
    out, into = (int(text) for text in os.environ.pop("HOMEPORT_RUN_FDS").split(","))
    for descriptor in (out, into):
        os.set_inheritable(descriptor, False)
    declaring.end_with_parent()
    declaring.find_beside()
    signal.signal(signal.SIGINT, _Interrupts())
    try:
        # The command has blocked it, so that a Ctrl-C during the imports above prints no traceback of ours.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        return _run(options, out, into)
    except KeyboardInterrupt:
        return INTERRUPTED


class _Interrupts:
    """Raises KeyboardInterrupt for a Ctrl-C, once for each time that it was pressed."""

    def __init__(self) -> None:
        self._last = -TWICE_S

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - self._last >= TWICE_S:
            self._last = now
            raise KeyboardInterrupt


def _run(options: argparse.Namespace, out: int, into: int) -> int:
    target, _, name = options.ref.partition("::")
    chosen: list[tuple[runnable.Runnable, Any]] = []

    def find(module: ModuleType) -> App:
        chosen_one = runnable.choose(module, name, target)
        cls = chosen_one.entry if isinstance(chosen_one.entry, Cls) else None
        program = f"homeport run {'-m ' if options.module else ''}{target}::{chosen_one.name}"
        chosen.append((chosen_one, Arguments(program, chosen_one.raw, cls=cls).read(options.words)))
        return chosen_one.app

    try:
        declared = declaring.declare_app(
            target, find, is_module=options.module, name=options.name, unnamed=_stem(target)
        )
        answer = Answer(declared=declared)
    except Failure as failure:
        answer = Answer(error=Fault.of(failure))
    except SystemExit as error:  # after the help, or a usage error
        answer = Answer(code=error.code if isinstance(error.code, int) else 1)
    sys.stdout.flush()
    with os.fdopen(out, "wb") as pipe:
        pipe.write(codec.line(answer))
    if answer.declared is None:
        return answer.code or 0
    with os.fdopen(into, "rb") as reader:
        line = reader.readline()
    if not line:
        return 1  # the command has said why
    go = codec.loads(Go, line)
    _enter(go)
    to_run, arguments = chosen[0]
    return _finish(to_run, arguments, options.write, detach=go.detach)


def _stem(target: str) -> str:
    """Return the name of an app that has none, as Modal names it: after the script."""
    return Path(target).stem if target.endswith(".py") else target.rpartition(".")[2]


def _enter(go: Go) -> None:
    """Send this process's calls, and those of processes that the script starts, to the session."""
    context.enter_calls(
        context.Reach(
            socket=go.socket,
            app=go.app,
            scope=go.scope,
            token=go.token,
            environment=go.environment,
            key=go.key,
            urls=go.urls,
            local_urls=go.local_urls,
        )
    )
    os.environ["HOMEPORT_CALLS_SOCKET"] = go.socket
    os.environ["HOMEPORT_CALLS_APP"] = go.app
    os.environ["HOMEPORT_CALLS_SCOPE"] = go.scope
    os.environ["HOMEPORT_CALLS_KEY"] = go.key
    os.environ["HOMEPORT_ENVIRONMENT"] = go.environment
    if go.token:
        os.environ["HOMEPORT_CALLS_TOKEN"] = go.token


def _finish(to_run: runnable.Runnable, arguments: Any, write: str, *, detach: bool) -> int:
    """Call the function; write its result to a file if `--write-result` was given."""
    try:
        result = _call(to_run, *arguments, detach=detach)
    except Exception as error:
        sys.stdout.flush()
        print(users_traceback(error, libraries=False), file=sys.stderr)  # noqa: T201 - as Python does it
        return 1
    try:
        if write:
            _write(Path(write), result)
    except Failure as failure:
        print(f"error: {failure.message}", file=sys.stderr)  # noqa: T201 - the command does not see this error
        return 1
    return 0


def _call(
    to_run: runnable.Runnable,
    args: list[Any],
    kwargs: dict[str, Any],
    parameters: dict[str, Any],
    *,
    detach: bool,
) -> Any:
    if isinstance(to_run.entry, LocalEntrypoint):
        outcome = to_run.raw(*args, **kwargs)
        return asyncio.run(_wait(outcome)) if inspect.isawaitable(outcome) else outcome
    function: Any = to_run.entry
    if isinstance(to_run.entry, Cls):
        function = getattr(to_run.entry(**parameters), to_run.method)
    if detach:  # a call that outlives its caller
        return function.spawn(*args, **kwargs).get()
    return function.remote(*args, **kwargs)


async def _wait(awaitable: Any) -> Any:
    return await awaitable


def _write(path: Path, result: Any) -> None:
    if not isinstance(result, str | bytes):
        raise ScriptError(
            f"Function must return str or bytes when using `--write-result`; got {type(result).__name__}"
        )
    try:
        if isinstance(result, str):
            path.write_text(result, encoding="utf-8")
        else:
            path.write_bytes(result)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise ScriptError(f"the result cannot be written to {path}: {why}") from None


if __name__ == "__main__":
    raise SystemExit(main())
