"""`FunctionCall`: a call that `.spawn` made, and that continues without its caller."""

import json
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import field
from typing import Any, ClassVar

from homeport.contract import calls, frames
from homeport.contract.dataclass import dataclass
from homeport.sdk import context, exception, traces, values
from homeport.sdk.gone import Old
from homeport.sdk.objects import exchange
from homeport.sdk.objects.exchange import Ask, Steps, Wait
from homeport.sdk.objects.shared import query
from homeport.sdk.objects.target import Target

NOUN = "spawned"
KEPT_S = 7 * 24 * 3600  # how long the server keeps an outcome
_TIME_DIGITS = 16  # of an id: when the call was made, in nanoseconds


@dataclass(frozen=True)
class InputInfo:
    """One input of a call, in its graph."""

    function_call_id: str
    function_name: str
    task_id: str  # the container
    status: str  # waiting, running, done, failed or cancelled
    children: "list[InputInfo]" = field(default_factory=list)


class FunctionCall(metaclass=Old):
    """A call that was spawned. Its outcome is kept for seven days. Each method has an `.aio`."""

    gather: "ClassVar[Gather]"

    def __init__(self, call: str, inputs: int | None = None, environment: str = "") -> None:
        self._id = call
        self._environment = environment  # its name; empty: this process's own
        self._inputs = inputs

    @staticmethod
    def from_id(function_call_id: str, client: Any = None) -> "FunctionCall":  # noqa: ARG004
        """Return the call with this id; the first use of the call checks that it exists."""
        if not isinstance(function_call_id, str) or not function_call_id.startswith("fc-"):
            raise exception.InvalidError(f"Invalid FunctionCall ID: '{function_call_id}'.")
        return FunctionCall(function_call_id)

    @property
    def object_id(self) -> str:
        """The call's id, for `from_id`."""
        return self._id

    @exchange.operation
    def get(self, timeout: float | None = None, *, index: int = 0) -> Steps[Any]:
        """Return the result, or raise what the function has raised.

        `timeout`: how many seconds to wait, then `TimeoutError`; None: for ever; 0: not at all. `index` is of the input, in a `spawn_map`.
        """
        return (yield from self._outcome(timeout, index))

    @exchange.operation
    def cancel(self, terminate_containers: bool = False) -> Steps[None]:
        """Cancel the call; with `terminate_containers` also end the containers that run it."""
        path = query("cancel", terminate="1" if terminate_containers else "")
        yield from self._ask(path, method="POST")

    @exchange.operation
    def num_inputs(self) -> Steps[int]:
        """Return how many inputs the call has."""
        return (yield from self._count())

    @exchange.operation
    def get_call_graph(self) -> Steps[list[InputInfo]]:
        """Return the call's inputs, each with the calls that it has spawned."""
        return (yield from _graph(self._id, self._environment))

    @property
    def iter(self) -> "Outcomes":
        """Iterate over the results of a `spawn_map`: `iter(start=0, end=None)`, in the order of the inputs."""
        return Outcomes(self)

    def __repr__(self) -> str:
        return f"FunctionCall('{self._id}')"

    def _count(self) -> Steps[int]:
        if self._inputs is None:
            answer = json.loads((yield from self._ask("", method="GET")))
            self._inputs = len(answer["inputs"])
        return self._inputs

    def _outcome(self, timeout: float | None, index: int) -> Steps[Any]:
        wait = Wait(timeout)
        while True:
            path = query("outcome", place=str(index), wait_s=wait.next_s)
            parts = frames.values((yield from self._ask(path, method="GET")))
            if parts:
                return _value(*parts)
            if wait.is_over:
                raise TimeoutError(f"the call {self._id} has not ended yet")

    def _ask(self, path: str, *, method: str) -> Steps[bytes]:
        try:
            return (yield Ask(NOUN, self._id, path, method=method, environment=self._environment))
        except exception.NotFoundError as error:
            if _is_old(self._id):
                raise exception.OutputExpiredError(
                    f"the result of {self._id} was kept for 7 days"
                ) from None
            raise exception.NotFoundError(str(error)) from None


class Gather:
    """`FunctionCall.gather(a, b)`, and `FunctionCall.gather.aio(a, b)` for `await`."""

    def __call__(self, *function_calls: FunctionCall) -> list[Any]:
        """Return the results of several calls; raise the first failure, in their order."""
        return [call.get() for call in function_calls]

    async def aio(self, *function_calls: FunctionCall) -> list[Any]:
        """The same for `await`; raise a failure as soon as a call has failed."""
        import asyncio

        waiting = [asyncio.ensure_future(call.get.aio()) for call in function_calls]
        try:
            return [*await asyncio.gather(*waiting)]
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)


class Outcomes:
    """`call.iter()`, and `call.iter.aio()` for `async for`."""

    def __init__(self, call: FunctionCall) -> None:
        self._call = call

    def __call__(self, *, start: int = 0, end: int | None = None) -> Iterator[Any]:
        last = end if end is not None else self._call.num_inputs()
        for index in range(start, last):
            yield self._call.get(index=index)

    async def aio(self, *, start: int = 0, end: int | None = None) -> AsyncIterator[Any]:
        """The same for `async for`."""
        last = end if end is not None else await self._call.num_inputs.aio()
        for index in range(start, last):
            yield await self._call.get.aio(index=index)


FunctionCall.gather = Gather()


def spawn(target: Target, inputs: "list[tuple[Any, Any]]") -> Steps[FunctionCall]:
    """Make a call of these inputs, each of positional and named arguments; when this returns, the call is on the
    server's disk.
    """
    call = f"fc-{time.time_ns():0{_TIME_DIGITS}x}{secrets.token_hex(12)}"
    where = query(
        NOUN,
        id=call,
        app=target.app,
        function=target.tag,
        scope=target.scope,
        parameters=target.query,
        parent=context.current_function_call_id() or "",
        python=values.PYTHON,
        variant=target.variant,
        trace=" ".join(traces.fields().values()),
    )
    parts = [] if target.options is None else [target.options.body]
    body = frames.pack([*parts, *(values.dumps(one_input) for one_input in inputs)])
    yield Ask(where, "", body=body, environment=target.environment)
    return FunctionCall(call, len(inputs), target.environment)


def _value(kind: bytes, python: bytes, body: bytes) -> Any:
    if kind == b"value":
        return values.loads(body, python.decode())
    if kind == b"error":
        raise values.exception(calls.Failed.decode(body))
    text = body.decode("utf-8", "replace")
    kinds: dict[bytes, type[Exception]] = {
        b"timeout": exception.FunctionTimeoutError,
        b"ended": exception.InternalFailure,
        b"refused": exception.ExecutionError,
    }
    if kind == b"cancelled":
        raise exception.RemoteError("the call was cancelled")
    raise kinds.get(kind, exception.ExecutionError)(text)


def _graph(call: str, environment: str) -> Steps[list[InputInfo]]:
    itself = Ask(NOUN, call, "", method="GET", environment=environment)
    inputs = json.loads((yield itself))["inputs"]
    below = Ask(NOUN, call, "children", method="GET", environment=environment)
    calls_below = json.loads((yield below))["calls"]
    children: list[InputInfo] = []
    for child in dict.fromkeys(child_input["id"] for child_input in calls_below):
        children += yield from _graph(child, environment)
    return [
        InputInfo(
            function_call_id=one_input["id"],
            function_name=one_input["function"],
            task_id=one_input["container"],
            status=one_input["state"],
            children=children,
        )
        for one_input in inputs
    ]


def _is_old(call: str) -> bool:
    try:
        made_at = int(call[3 : 3 + _TIME_DIGITS], 16) / 1e9
    except ValueError:
        return False
    return 0 < made_at < time.time() - KEPT_S
