"""Asks the server for the objects that containers share: from a container over its socket, elsewhere over the API.

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
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from homeport.contract import errors
from homeport.contract.dataclass import dataclass
from homeport.sdk import context, exception, outside

PATIENCE_S = 30.0  # how long to try while the server does not answer, as during a restart
PAUSE_S = 0.2
WAIT_S = 20.0  # how long one request waits at most; a longer wait takes several requests
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
    environment: str = ""  # that it is for; empty: this process's own

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
                request = step()
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            try:
                step = functools.partial(steps.send, _ask(request))
            except Exception as error:
                step = functools.partial(steps.throw, error)

    async def aio(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """The same for `await`."""
        steps = self._steps(*args, **kwargs)
        step: Callable[[], Ask] = functools.partial(next, steps)
        while True:
            try:
                request = step()
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            try:
                step = functools.partial(steps.send, await _ask_async(request))
            except Exception as error:
                step = functools.partial(steps.throw, error)


class operation(Generic[P, T]):  # noqa: N801 - used as a decorator
    """Makes a generator method an `Operation`."""

    def __init__(self, steps: Callable[Concatenate[Any, P], Steps[T]]) -> None:
        self._steps = steps
        self.__doc__, self.__wrapped__ = steps.__doc__, steps

    def __get__(self, instance: Any, owner: Any = None) -> Operation[P, T]:
        return Operation(self._steps.__get__(instance, owner))


class Wait:
    """A wait for the server that may take several requests: each waits a while, and the next one continues."""

    def __init__(self, timeout_s: float | None) -> None:
        """`timeout_s` is for all requests together; 0: do not wait, None: no limit."""
        self._until = float("inf") if timeout_s is None else time.monotonic() + timeout_s

    @property
    def next_s(self) -> float:
        """How long the next request shall wait."""
        return max(0.0, min(WAIT_S, self._until - time.monotonic()))

    @property
    def is_over(self) -> bool:
        """True if there is no time left for another request."""
        return time.monotonic() >= self._until


class _Tries:
    """The tries of one request over the socket: says after each whether there is another."""

    def __init__(self, request: Ask) -> None:
        self._repeats = request.repeats
        self._until = time.monotonic() + PATIENCE_S

    def answered(self, answer: Any) -> bytes | None:
        """Return the body of an answer; None: try again, because the server does not run, or ended meanwhile."""
        is_away = _is_away(answer)
        if (is_away or (self._repeats and _was_cut(answer))) and not self._is_over():
            return None
        if is_away:
            raise _away()
        return _body(answer)

    def failed(self, *, may_have_run: bool) -> None:
        """Raise the user's error after a try without an answer, unless there is another try."""
        if may_have_run and (not self._repeats or self._is_over()):
            raise _unknown() from None
        if not may_have_run and self._is_over():
            raise _away() from None

    def _is_over(self) -> bool:
        return time.monotonic() > self._until


def _ask(request: Ask) -> bytes:
    reach = context.reach()
    if reach is None:
        parts = (request.method, request.target, request.body)
        answer: bytes = outside.ask(
            lambda client: client.raw(*parts), environment=request.environment
        )
        return answer
    from homeport import wire

    tries = _Tries(request)
    while True:
        try:
            body = tries.answered(wire.ask(_socket(reach), _request(request, reach)))
        except (wire.Unreachable, wire.CutOff) as error:
            tries.failed(may_have_run=isinstance(error, wire.CutOff))
        else:
            if body is not None:
                return body
        time.sleep(PAUSE_S)


async def _ask_async(request: Ask) -> bytes:
    import asyncio

    reach = context.reach()
    if reach is None:
        return await asyncio.to_thread(_ask, request)
    from homeport import wire

    tries = _Tries(request)
    while True:
        try:
            body = tries.answered(await wire.ask_async(_socket(reach), _request(request, reach)))
        except (wire.Unreachable, wire.CutOff) as error:
            tries.failed(may_have_run=isinstance(error, wire.CutOff))
        else:
            if body is not None:
                return body
        await asyncio.sleep(PAUSE_S)


def _request(request: Ask, reach: context.Reach) -> Any:
    from homeport import wire
    from homeport.contract import calls
    from homeport.sdk.objects import environments

    return wire.Request(
        "",
        request.body,
        content_type=request.content_type,
        method=request.method,
        target=request.target,
        fields={
            calls.KEY: environments.key(request.environment),
            calls.ENVIRONMENT: request.environment or reach.environment,
        },
    )


def _is_away(answer: Any) -> bool:
    """Return whether the ingress answered because the server does not run, so nothing was done."""
    return answer.status == 503 and not answer.fields.get("content-type", "").startswith(
        "application/json"
    )


def _was_cut(answer: Any) -> bool:
    """Return whether the ingress answered, because the server ended before it had answered."""
    return answer.status == 502 and not answer.fields.get("content-type", "").startswith(
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


def _socket(reach: context.Reach) -> Any:
    if not reach.socket:
        raise exception.ExecutionError(
            "this container may not speak to the server: its function has `restrict_modal_access=True`"
        )
    from homeport import wire

    return wire.address_of(reach.socket, reach.token)


def _away() -> exception.ConnectionError:
    return exception.ConnectionError("the homeport server does not answer")


def _unknown() -> exception.ServiceError:
    return exception.ServiceError(
        "the connection to the homeport server ended before its answer came; it is not known whether it was done"
    )
