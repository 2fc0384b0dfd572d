"""Methods that block, each with an `.aio` for code that must not: `v.commit()` and `await v.commit.aio()`."""

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def _in_thread(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    import asyncio  # 20 ms, and a script that is only declared needs none of it

    return await asyncio.to_thread(function, *args, **kwargs)


class Call(Generic[P, T]):
    """A function that blocks, and its `.aio`."""

    def __init__(self, function: Callable[P, T]) -> None:
        self._function = function
        functools.update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._function(*args, **kwargs)

    async def aio(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """The same for `await`: it blocks a thread and not the event loop."""
        answer: T = await _in_thread(self._function, *args, **kwargs)
        return answer


class Stream(Generic[P, T]):
    """A function that returns an iterator which blocks, and its `.aio`."""

    def __init__(self, function: Callable[P, Iterator[T]]) -> None:
        self._function = function
        functools.update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return self._function(*args, **kwargs)

    async def aio(self, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        """The same for `async for`."""
        items = self._function(*args, **kwargs)
        end = object()
        while (item := await _in_thread(next, items, end)) is not end:
            yield item


class method(Generic[P, T]):  # noqa: N801 - used as a decorator
    """Makes a method a `Call`."""

    def __init__(self, function: Callable[Concatenate[Any, P], T]) -> None:
        self._function = function
        self.__doc__, self.__wrapped__ = function.__doc__, function

    def __get__(self, instance: Any, owner: Any = None) -> Call[P, T]:
        if instance is None:
            return Call(self._function)  # type: ignore[arg-type]
        return Call(self._function.__get__(instance, owner))


class streaming(Generic[P, T]):  # noqa: N801 - used as a decorator
    """Makes a generator method a `Stream`."""

    def __init__(self, function: Callable[Concatenate[Any, P], Iterator[T]]) -> None:
        self._function = function
        self.__doc__, self.__wrapped__ = function.__doc__, function

    def __get__(self, instance: Any, owner: Any = None) -> Stream[P, T]:
        if instance is None:
            return Stream(self._function)  # type: ignore[arg-type]
        return Stream(self._function.__get__(instance, owner))


class Both(Generic[T]):
    """A block for `with` and for `async with`."""

    def __init__(self, block: AbstractContextManager[T]) -> None:
        self._block = block

    def __enter__(self) -> T:
        return self._block.__enter__()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._block.__exit__(kind, error, at)

    async def __aenter__(self) -> T:
        entered: T = await _in_thread(self.__enter__)
        return entered

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        await _in_thread(self.__exit__, kind, error, at)
