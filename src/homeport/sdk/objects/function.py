"""`Function`: the object that `@app.function` makes of a function."""

from typing import Any

from homeport.sdk import context, gone
from homeport.sdk.exception import (
    ExecutionError,
    InvalidError,
    NotFoundError,
    UnimplementedError,
)
from homeport.sdk.gone import Old
from homeport.sdk.objects.partial import PartialFunction
from homeport.sdk.objects.pending import (
    FunctionCall as FunctionCall,  # noqa: PLC0414 - `modal.functions` has it
)

REMOTE_FORMS = (
    "remote", "remote_gen", "spawn", "map", "starmap", "for_each", "spawn_map",
    "experimental_spawn_map",
)  # fmt: skip
PENDING = (
    "update_autoscaler", "autoscaler", "get_current_stats", "hydrate", "with_options",
    "with_concurrency", "with_batching", "keep_warm",
)  # fmt: skip


class Function(metaclass=Old):
    """The object that `@app.function()` makes of a function. Call it with `.local()`, or by its URL."""

    declared_by = "@app.function"

    def __init__(
        self, tag: str, partial: PartialFunction, options: dict[str, Any], app: Any
    ) -> None:
        self.tag = tag
        self.partial = partial
        self.options = options
        self.app = app
        self.__name__ = partial.name
        self.__doc__ = partial.raw.__doc__
        self.__module__ = partial.raw.__module__
        self.__wrapped__ = partial.raw

    @property
    def raw(self) -> Any:
        """The user's own function."""
        return self.partial.raw

    def local(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function in this process."""
        return self.raw(*args, **kwargs)

    def get_raw_f(self) -> Any:
        """The user's own function."""
        return self.raw

    def get_web_url(self) -> str | None:
        """Return the URL of a web function, in a container; None for other functions."""
        return web_url(self.tag, is_web=self.partial.web is not None)

    @staticmethod
    def from_name(app_name: str, name: str, **_options: Any) -> Any:
        """Look up a function of a deployed app: not there yet."""
        if "." in name:
            raise InvalidError(
                f"Invalid Function name: '{name}'. If you are trying to look up a class method, "
                "use `modal.Cls.from_name` instead."
            )
        raise UnimplementedError(
            f"`Function.from_name({app_name!r}, {name!r})` is not there yet in homeport: "
            "ask the function's URL"
        )

    def __call__(self, *_args: Any, **_kwargs: Any) -> Any:
        raise TypeError("'Function' object is not callable. Use `.local()` to call it here")

    def __getattr__(self, name: str) -> Any:
        if name in REMOTE_FORMS:
            return _Remote(self.tag, name, is_web=self.partial.web is not None)
        if name in PENDING:
            raise UnimplementedError(f"`Function.{name}` is not there yet in homeport")
        gone.on_instance(self, name)
        raise AttributeError(f"'Function' object has no attribute '{name}'")

    def __repr__(self) -> str:
        return f"Function({self.tag})"


class _Remote:
    """`.remote` and similar calls, with `.aio`: each raises an error that says what to use instead."""

    def __init__(self, tag: str, name: str, *, is_web: bool) -> None:
        self._tag, self._name, self._is_web = tag, name, is_web

    def __call__(self, *_args: Any, **_kwargs: Any) -> Any:
        if self._is_web:
            url = context.url_of(self._tag) or "(not served yet)"
            raise InvalidError(
                "A webhook function cannot be invoked for remote execution with "
                f"`.{self._name}`. Invoke this function via its web url '{url}' "
                f"or call it locally: {self._tag}.local()"
            )
        raise UnimplementedError(
            f"`.{self._name}` is not there yet in homeport; `.local()` calls the function here"
        )

    @property
    def aio(self) -> "_Remote":
        """The same for `await`."""
        return self


def web_url(tag: str, *, is_web: bool) -> str | None:
    """Return the URL of a web function; None for other functions, `ExecutionError` if it is not served."""
    if not is_web:
        return None
    url = context.url_of(tag)
    if url is None:
        if context.is_local():
            raise ExecutionError(
                "Function has not been hydrated with the metadata it needs to run on Modal, "
                "because the App it is defined on is not running."
            )
        raise NotFoundError(f"`{tag}` has no URL in this app")
    return url
