"""The forms of a call, each with its `.aio`: `f.remote(…)` blocks, `await f.remote.aio(…)` does not."""

from collections.abc import AsyncIterator, Iterator
from typing import Any, Protocol

from homeport.sdk import context
from homeport.sdk.exception import (
    GENERATOR,
    NO_GENERATOR,
    InvalidError,
    UnimplementedError,
)
from homeport.sdk.objects import calling
from homeport.sdk.objects.target import Target


class Callee(Protocol):
    """What a form needs of a function."""

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
        """Return where the call goes; `InvalidError` for a web function."""
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


class Pending(Form):
    """A form that is not there yet."""

    def __init__(self, callee: Callee, name: str) -> None:
        super().__init__(callee)
        self.name = name

    def __call__(self, *_args: Any, **_kwargs: Any) -> Any:
        self._target()
        raise UnimplementedError(
            f"`.{self.name}` is not there yet in homeport; `.remote` calls the function and waits"
        )

    @property
    def aio(self) -> "Pending":
        """The same for `await`."""
        return self

    def _target(self) -> Target:
        if self._callee.is_web:
            raise of_web(self._callee.tag, self.name)
        return Target(app="", tag="")


def of_web(tag: str, name: str) -> InvalidError:
    """Return the error for a call of a web function."""
    url = context.url_of(tag) or "(not served yet)"
    return InvalidError(
        f"A webhook function cannot be invoked for remote execution with `.{name}`. "
        f"Invoke this function via its web url '{url}' or call it locally: {tag}.local()"
    )
