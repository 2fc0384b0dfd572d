"""The forms of a call, each with its `.aio`: `f.remote(…)` blocks, `await f.remote.aio(…)` does not."""

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Protocol

from homeport.sdk import context
from homeport.sdk.exception import (
    GENERATOR,
    NO_GENERATOR,
    InvalidError,
)
from homeport.sdk.objects import bridge, call, calling, exchange, mapping
from homeport.sdk.objects.call import FunctionCall
from homeport.sdk.objects.target import Target


class Callee(Protocol):
    """The parts of a function that a form of call uses."""

    tag: str

    @property
    def is_web(self) -> bool: ...
    @property
    def generates(self) -> bool | None: ...
    def target(self) -> Target: ...


class Form:
    """One form of a call of one function."""

    name = ""

    def __init__(self, callee: Callee) -> None:
        self._callee = callee

    def _target(self) -> Target:
        """Return the call's target; `InvalidError` for a web function."""
        if self._callee.is_web:
            raise of_web(self._callee.tag, self.name)
        return self._callee.target()


class Remote(Form):
    """`.remote(…)`: one call, and its value."""

    name = "remote"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return calling.call(self._target(), args, kwargs)

    async def aio(self, *args: Any, **kwargs: Any) -> Any:
        """The same for `await`."""
        return await calling.call_async(self._target(), args, kwargs)

    def _target(self) -> Target:
        if self._callee.generates:
            raise InvalidError(GENERATOR)
        return super()._target()


class RemoteGen(Form):
    """`.remote_gen(…)`: one call, and its values as they come."""

    name = "remote_gen"

    def __call__(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        return calling.stream(self._target(), args, kwargs)

    def aio(self, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        """The same for `async for`."""
        return calling.stream_async(self._target(), args, kwargs)

    def _target(self) -> Target:
        target = super()._target()
        if self._callee.generates is False:
            raise InvalidError(NO_GENERATOR)
        return target


class _Many(Form):
    """A form that makes many calls."""

    def _calls(
        self,
        kwargs: "dict[str, Any] | None",
        *,
        ordered: bool,
        return_exceptions: bool,
        blocks: bool,
    ) -> "Callable[[mapping.Inputs], AsyncIterator[Any]]":
        """Return the function that makes the calls of some inputs; `InvalidError` if there can be none."""
        target = self._target()
        if self._callee.generates:
            raise InvalidError(f"A generator function cannot be called with `.{self.name}(...)`.")
        if blocks and calling.in_loop():
            raise InvalidError(
                f"`.{self.name}()` blocks, and an event loop runs here: "
                f"use `async for … in f.{self.name}.aio(…)`"
            )
        return functools.partial(
            mapping.calls,
            target,
            kwargs=kwargs or {},
            ordered=ordered,
            return_exceptions=return_exceptions,
        )


class Map(_Many):
    """`.map(a, b, …)`: a call for each item of the iterables."""

    name = "map"

    def __call__(
        self,
        *iterables: Any,
        kwargs: "dict[str, Any] | None" = None,  # the same for every call
        order_outputs: bool = True,  # False: yield results as they come
        return_exceptions: bool = False,  # True: yield exceptions, and continue
        wrap_returned_exceptions: bool = False,  # noqa: ARG002 - the original's, without effect
    ) -> Iterator[Any]:
        calls = self._calls(
            kwargs, ordered=order_outputs, return_exceptions=return_exceptions, blocks=True
        )
        if len(iterables) == 1:
            return bridge.run(iterables[0], lambda items: calls(mapping.single(items)))
        return bridge.run(zip(*iterables), calls)  # noqa: B905 - the shortest ends it

    def aio(
        self,
        *iterables: Any,
        kwargs: "dict[str, Any] | None" = None,
        order_outputs: bool = True,
        return_exceptions: bool = False,
        wrap_returned_exceptions: bool = False,  # noqa: ARG002
    ) -> AsyncIterator[Any]:
        """The same for `async for`; the iterables may be async ones."""
        calls = self._calls(
            kwargs, ordered=order_outputs, return_exceptions=return_exceptions, blocks=False
        )
        return calls(mapping.zipped(iterables))


class StarMap(_Many):
    """`.starmap(items)`: a call for each item, which is the call's arguments."""

    name = "starmap"

    def __call__(
        self,
        items: Any,
        *,
        kwargs: "dict[str, Any] | None" = None,
        order_outputs: bool = True,
        return_exceptions: bool = False,
        wrap_returned_exceptions: bool = False,  # noqa: ARG002
    ) -> Iterator[Any]:
        calls = self._calls(
            kwargs, ordered=order_outputs, return_exceptions=return_exceptions, blocks=True
        )
        return bridge.run(items, lambda inputs: calls(mapping.starred(inputs)))

    def aio(
        self,
        items: Any,
        *,
        kwargs: "dict[str, Any] | None" = None,
        order_outputs: bool = True,
        return_exceptions: bool = False,
        wrap_returned_exceptions: bool = False,  # noqa: ARG002
    ) -> AsyncIterator[Any]:
        """The same for `async for`; the items may come from an async iterator."""
        calls = self._calls(
            kwargs, ordered=order_outputs, return_exceptions=return_exceptions, blocks=False
        )
        return calls(mapping.starred(items))


class ForEach(Map):
    """`.for_each(a, b, …)`: a call for each item, without results."""

    name = "for_each"

    def __call__(  # type: ignore[override]
        self,
        *iterables: Any,
        kwargs: "dict[str, Any] | None" = None,
        ignore_exceptions: bool = False,
    ) -> None:
        results = super().__call__(
            *iterables, kwargs=kwargs, order_outputs=False, return_exceptions=ignore_exceptions
        )
        for _ in results:
            pass

    async def aio(  # type: ignore[override]
        self,
        *iterables: Any,
        kwargs: "dict[str, Any] | None" = None,
        ignore_exceptions: bool = False,
    ) -> None:
        """The same for `await`."""
        results = super().aio(
            *iterables, kwargs=kwargs, order_outputs=False, return_exceptions=ignore_exceptions
        )
        async for _ in results:
            pass


class Spawn(Form):
    """`.spawn(…)`: one call that continues without its caller."""

    name = "spawn"

    def __call__(self, *args: Any, **kwargs: Any) -> FunctionCall:
        return self._operation()([(args, kwargs)])

    async def aio(self, *args: Any, **kwargs: Any) -> FunctionCall:
        """The same for `await`."""
        return await self._operation().aio([(args, kwargs)])

    def _operation(self) -> "exchange.Operation[[list[tuple[Any, Any]]], FunctionCall]":
        target = self._target()
        if self._callee.generates:
            raise InvalidError("Cannot `spawn` a generator function.")
        return exchange.Operation(lambda inputs: call.spawn(target, inputs))


class SpawnMap(Spawn):
    """`.spawn_map(a, b, …)`: one call with an input for each item of the iterables."""

    name = "spawn_map"
    tells = False  # True: return the call

    def __call__(  # type: ignore[override]
        self, *iterables: Any, kwargs: "dict[str, Any] | None" = None
    ) -> FunctionCall | None:
        call = self._operation()(_inputs(iterables, kwargs))
        return call if self.tells else None

    async def aio(  # type: ignore[override]
        self, *iterables: Any, kwargs: "dict[str, Any] | None" = None
    ) -> FunctionCall | None:
        """The same for `await`."""
        call = await self._operation().aio(_inputs(iterables, kwargs))
        return call if self.tells else None


class SpawnMapTold(SpawnMap):
    """`.experimental_spawn_map(a, b, …)`: the same, and returns the call."""

    name = "experimental_spawn_map"
    tells = True


def _inputs(
    iterables: "tuple[Any, ...]", kwargs: "dict[str, Any] | None"
) -> "list[tuple[Any, Any]]":
    inputs = [(args, kwargs or {}) for args in zip(*iterables)]  # noqa: B905 - as `map`
    if not inputs:
        raise InvalidError("a call needs at least one input")
    return inputs


def of_web(tag: str, name: str) -> InvalidError:
    """Return the error for a call of a web function."""
    url = context.url_of(tag) or "(not served yet)"
    return InvalidError(
        f"A webhook function cannot be invoked for remote execution with `.{name}`. "
        f"Invoke this function via its web url '{url}' or call it locally: {tag}.local()"
    )
