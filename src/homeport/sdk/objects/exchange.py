"""Asks the server for what containers share: from a container over its socket, elsewhere over the API.

An operation is written once, as a generator that yields its requests and gets their answers:

    @exchange.operation
    def clear(self) -> exchange.Steps[None]:
        yield Ask("dicts", self._id, "clear")

`d.clear()` blocks, and `await d.clear.aio()` does not.
"""

import functools
import json
import time
import urllib.parse
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from homeport.contract import errors
from homeport.sdk import context, exception, outside

PATIENCE_S = 30.0  # how long to try while the server does not answer, as during a restart
PAUSE_S = 0.2
BYTES = "application/octet-stream"

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Ask:
    """One request to the server."""

    noun: str  # `dicts` or `queues`
    name: str  # of the object, or its id; empty: all of them
    rest: str = ""  # the path after it, with its query
    body: bytes = b""
    method: str = "POST"
    content_type: str = BYTES
    repeats: bool = True  # False: do not repeat it if the server may have done it

    @property
    def target(self) -> str:
        """The request's path."""
        parts = ("/v1", self.noun, urllib.parse.quote(self.name, safe=""), self.rest)
        return "/".join(part for part in parts if part)


Steps = Generator[Ask, bytes, T]


class Operation(Generic[P, T]):
    """A function that blocks, and its `.aio`."""

    def __init__(self, steps: Callable[P, Steps[T]]) -> None:
        self._steps = steps
        functools.update_wrapper(self, steps)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        steps = self._steps(*args, **kwargs)
        step: Callable[[], Ask] = functools.partial(next, steps)
        while True:
            try:
                asked = step()
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            try:
                step = functools.partial(steps.send, _ask(asked))
            except Exception as error:
                step = functools.partial(steps.throw, error)

    async def aio(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """The same for `await`."""
        steps = self._steps(*args, **kwargs)
        step: Callable[[], Ask] = functools.partial(next, steps)
        while True:
            try:
                asked = step()
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            try:
                step = functools.partial(steps.send, await _ask_async(asked))
            except Exception as error:
                step = functools.partial(steps.throw, error)


class operation(Generic[P, T]):  # noqa: N801 - used as a decorator
    """Makes a generator method an `Operation`."""

    def __init__(self, steps: Callable[Concatenate[Any, P], Steps[T]]) -> None:
        self._steps = steps
        self.__doc__, self.__wrapped__ = steps.__doc__, steps

    def __get__(self, instance: Any, owner: Any = None) -> Operation[P, T]:
        return Operation(self._steps.__get__(instance, owner))


def _ask(asked: Ask) -> bytes:
    reach = context.reach()
    if reach is None:
        given = (asked.method, asked.target, asked.body)
        found: bytes = outside.ask(lambda client: client.raw(*given))
        return found
    from homeport import wire

    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            answer = wire.ask(_socket(reach), _request(asked))
            if not _is_away(answer) or time.monotonic() > deadline:
                return _body(answer)
        except wire.Unreachable:
            if time.monotonic() > deadline:
                raise _away() from None
        except wire.CutOff:
            if not asked.repeats or time.monotonic() > deadline:
                raise _unknown() from None
        time.sleep(PAUSE_S)


async def _ask_async(asked: Ask) -> bytes:
    import asyncio

    reach = context.reach()
    if reach is None:
        return await asyncio.to_thread(_ask, asked)
    from homeport import wire

    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            answer = await wire.ask_async(_socket(reach), _request(asked))
            if not _is_away(answer) or time.monotonic() > deadline:
                return _body(answer)
        except wire.Unreachable:
            if time.monotonic() > deadline:
                raise _away() from None
        except wire.CutOff:
            if not asked.repeats or time.monotonic() > deadline:
                raise _unknown() from None
        await asyncio.sleep(PAUSE_S)


def _request(asked: Ask) -> Any:
    from homeport import wire

    return wire.Request(
        "",
        asked.body,
        content_type=asked.content_type,
        method=asked.method,
        target=asked.target,
    )


def _is_away(answer: Any) -> bool:
    """Return whether the ingress answered because the server does not run, so nothing was done."""
    return answer.status == 503 and not answer.fields.get("content-type", "").startswith(
        "application/json"
    )


def _body(answer: Any) -> bytes:
    """Return the answer's body; raise the error that it describes."""
    body = bytes(answer.body)
    if answer.status < 300:
        return body
    try:
        outside.translate(errors.Failure.from_dict(json.loads(body)["error"]))
    except (ValueError, KeyError, TypeError):
        if answer.status in (502, 504):
            raise _unknown() from None
        text = body.decode("utf-8", "replace").strip().removeprefix("homeport: ")
        raise exception.ExecutionError(f"the server refused: {text or answer.status}") from None


def _socket(reach: context.Reach) -> str:
    if not reach.socket:
        raise exception.ExecutionError(
            "this container may not speak to the server: its function has `restrict_modal_access=True`"
        )
    return reach.socket


def _away() -> exception.ConnectionError:
    return exception.ConnectionError("the homeport server does not answer")


def _unknown() -> exception.ServiceError:
    return exception.ServiceError(
        "the connection to the homeport server ended before its answer came; nobody knows whether it was done"
    )
