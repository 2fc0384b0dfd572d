"""The server's API, for what a script does on its user's machine: put files into a volume, or list them.

Calls block, in a script without and with an event loop: the work is done by a loop in a thread of its own.
A container never gets here, because it may not speak to the server. `homeport.client` needs packages that an
image may lack, so it is imported by its name, at the first call.
"""

import asyncio
import importlib
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from typing import Any, NoReturn, TypeVar

from homeport.contract import errors
from homeport.sdk import exception

T = TypeVar("T")

_lock = threading.Lock()
_loops: dict[int, asyncio.AbstractEventLoop] = {}  # by process: a fork has no threads


KINDS: dict[type[errors.Failure], type[Exception]] = {
    errors.NotFound: exception.MissingError,
    errors.AlreadyExists: exception.ExistsError,
    errors.ServerUnreachable: exception.ConnectionError,
    errors.Unauthorized: exception.AuthError,
    errors.Forbidden: exception.PermissionDeniedError,
    errors.TooMany: exception.ResourceExhaustedError,
    errors.StorageError: exception.ResourceExhaustedError,
}


def settings(environment: "str | None" = None) -> Any:
    """Return the settings in force (homeport.settings.Settings), perhaps for another environment."""
    try:
        load = importlib.import_module("homeport.settings").load
        return load(os.environ, environment=environment or None)
    except errors.Failure as failure:
        translate(failure)


def ask(work: Callable[[Any], Awaitable[T]], *, environment: str = "") -> T:
    """Connect a `homeport.client.Client`, and return what `work` returns for it; failures are exceptions of the SDK."""

    async def answered() -> T:
        async with _client(environment) as client:
            return await work(client)

    answer: T = _run(answered())
    return answer


def stream(work: Callable[[Any], AsyncIterator[T]], *, environment: str = "") -> Iterator[T]:
    """Yield the items of `work`, as `ask` calls it."""
    end = object()

    async def answered() -> AsyncIterator[T]:
        async with _client(environment) as client:
            async for item in work(client):
                yield item

    items, lock = answered(), asyncio.Lock()

    async def step() -> Any:
        async with lock:
            return await anext(items, end)

    async def close() -> None:
        async with lock:  # a step that Ctrl-C has cut off ends first
            await items.aclose()  # type: ignore[attr-defined]

    try:
        while (item := _run(step())) is not end:
            yield item
    finally:
        _run(close())


def _client(environment: str) -> Any:
    return importlib.import_module("homeport.client").Client(settings(environment))


def _run(work: "Coroutine[Any, Any, Any]") -> Any:
    """Return the work's result. Ctrl-C ends the work too, at whatever moment it comes."""
    given_up = threading.Event()
    tasks: list[asyncio.Task[Any]] = []

    async def run() -> Any:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        if given_up.is_set():
            work.close()
            return None
        return await work

    try:
        return asyncio.run_coroutine_threadsafe(run(), loop()).result()
    except errors.Failure as failure:
        translate(failure)
    except BaseException:
        given_up.set()
        for task in tasks:
            loop().call_soon_threadsafe(task.cancel)
        raise


def translate(failure: errors.Failure) -> NoReturn:
    """Raise a failure of the server as the exception of the SDK that a script expects."""
    kinds = (KINDS[kind] for kind in type(failure).__mro__ if kind in KINDS)
    hint = f". Hint: {failure.hint}" if failure.hint else ""
    raise next(kinds, exception.InvalidError)(f"{failure.message}{hint}") from None


def loop() -> asyncio.AbstractEventLoop:
    """Return this process's loop for the server's API, which runs in a thread of its own."""
    with _lock:
        loop_of_process = _loops.get(os.getpid())
        if loop_of_process is None:
            loop_of_process = _loops[os.getpid()] = asyncio.new_event_loop()
            threading.Thread(
                target=loop_of_process.run_forever, name="homeport", daemon=True
            ).start()
        return loop_of_process
