"""Gathers the inputs of a `@modal.batched` function: one call of it gets lists, and each caller its own result.

A batch begins with its first input. It is complete with `size` inputs, or `wait_ms` later. Batches run one after the
other, or as many at once as `@modal.concurrent` says.
"""

import asyncio
import contextvars
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from homeport.contract.manifest import Batch
from homeport.sdk.exception import InvalidError

Call = Callable[[list[Any], dict[str, list[Any]]], Awaitable[Any]]


class Batches:
    """The inputs of one function that wait for a batch."""

    def __init__(self, function: Any, batch: Batch, call: Call, *, at_once: int, name: str) -> None:
        self._batch, self._call, self._name = batch, call, name
        self._signature = inspect.signature(function)
        self._places = asyncio.Semaphore(at_once)
        self._waiting: list[_Input] = []
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def result(self, args: "tuple[Any, ...]", kwargs: "dict[str, Any]") -> Any:
        """Return the function's result for one input."""
        arguments = self._signature.bind(*args, **kwargs).arguments
        loop = asyncio.get_running_loop()
        one_input = _Input(arguments, loop.create_future(), contextvars.copy_context())
        self._waiting.append(one_input)
        if len(self._waiting) >= self._batch.size:
            self._begin()
        elif self._timer is None:
            self._timer = loop.call_later(self._batch.wait_ms / 1000, self._begin)
        try:
            return await one_input.result
        finally:
            if one_input in self._waiting:  # its caller has gone
                self._waiting.remove(one_input)

    def _begin(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        inputs, self._waiting = self._waiting, []
        if inputs:
            # The ids of the first input are those of the batch, as in Modal.
            task = inputs[0].context.run(asyncio.ensure_future, self._run(inputs))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self, inputs: "list[_Input]") -> None:
        async with self._places:
            inputs = [
                one_input for one_input in inputs if not one_input.result.done()
            ]  # their callers have gone
            if not inputs:
                return
            try:
                results = self._checked(await self._call([], self._lists(inputs)), len(inputs))
            except BaseException as error:
                for one_input in inputs:
                    if not one_input.result.done():
                        one_input.result.set_exception(_as_exception(error))
                if isinstance(error, asyncio.CancelledError):
                    raise
                return
        for one_input, result in zip(inputs, results, strict=True):
            if not one_input.result.done():
                one_input.result.set_result(result)

    def _lists(self, inputs: "list[_Input]") -> "dict[str, list[Any]]":
        """Return the inputs as a list for each parameter."""
        names = list(inputs[0].arguments)
        for one_input in inputs[1:]:
            if wrong := set(names) ^ set(one_input.arguments):
                raise InvalidError(
                    f"the inputs of a batch of `{self._name}` have different arguments: "
                    f"`{min(wrong)}` is given in some of them alone"
                )
        return {name: [one_input.arguments[name] for one_input in inputs] for name in names}

    def _checked(self, results: Any, count: int) -> "list[Any]":
        if not isinstance(results, list):
            raise InvalidError(f"Output of batched function {self._name} must be a list.")
        if len(results) != count:
            raise InvalidError(
                f"Output of batched function {self._name} must be a list of equal length as its inputs."
            )
        return results


class _Input:
    """One input, and the future of its result."""

    def __init__(
        self,
        arguments: "dict[str, Any]",
        result: "asyncio.Future[Any]",
        context: contextvars.Context,
    ) -> None:
        self.arguments, self.result, self.context = arguments, result, context


def _as_exception(error: BaseException) -> Exception:
    """Return an exception that a future takes."""
    return error if isinstance(error, Exception) else RuntimeError(repr(error))
