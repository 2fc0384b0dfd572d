"""`PartialFunction`: a function with web, lifecycle or modifier decorators, before `app.*` consumes it.

Rules of the behaviour spec, section 1.4: these decorators stand below `app.function` and `app.cls`, in any
order, and some exclude each other.
"""

import inspect
from collections.abc import Callable
from dataclasses import field
from typing import Any

from homeport.contract.dataclass import dataclass
from homeport.sdk import location
from homeport.sdk.exception import InvalidError, MisuseError

LIFECYCLE = frozenset({"enter_pre_snapshot", "enter_post_snapshot", "exit"})
CALLABLE = frozenset({"method", "batched"})
OF_CLASSES = frozenset({"concurrent", "clustered", "experimental.http_server"})
WEB = frozenset({"fastapi_endpoint", "asgi_app", "wsgi_app", "web_server"})


@dataclass(frozen=True)
class WebConfig:
    """The arguments of a web decorator."""

    kind: str
    label: str | None = None
    method: str = "GET"
    docs: bool = False
    port: int | None = None
    startup_timeout: float = 5.0
    requires_proxy_auth: bool = False
    custom_domains: tuple[str, ...] = ()


@dataclass(frozen=True)
class ServerConfig:
    """The settings of a class whose enter hooks start a server."""

    port: int
    startup_timeout: float  # seconds from the end of the enter hooks until the port must accept
    exit_grace_period: (
        float  # seconds that running requests may continue when a container is to end
    )
    requires_proxy_auth: bool = False


@dataclass
class PartialFunction:
    """A decorated function or class; a call of it calls the function itself."""

    raw: Any
    flags: frozenset[str] = frozenset()
    web: WebConfig | None = None
    server: ServerConfig | None = None  # of a class
    max_inputs: int | None = None
    target_inputs: int | None = None
    concurrent: bool = False
    batch: tuple[int, int] | None = None
    is_generator: bool | None = None
    where: str = ""
    consumed: bool = False
    name: str = field(init=False)

    def __post_init__(self) -> None:
        self.name = getattr(self.raw, "__name__", type(self.raw).__name__)
        self.where = self.where or location.of_code(self.raw) or location.here()
        _unconsumed[id(self)] = self

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        return self.raw.__get__(instance, owner)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.raw(*args, **kwargs)

    @property
    def generates(self) -> bool:
        """True if a call returns many values; `is_generator=` of a decorator wins over the function itself."""
        if self.is_generator is not None:
            return self.is_generator
        return inspect.isgeneratorfunction(self.raw) or inspect.isasyncgenfunction(self.raw)

    def consume(self) -> None:
        """Note that `app.function` or `app.cls` has taken it."""
        self.consumed = True
        _unconsumed.pop(id(self), None)


_unconsumed: dict[int, PartialFunction] = {}


def unconsumed() -> list[PartialFunction]:
    """Return the decorated functions that no `app.function` or `app.cls` has taken."""
    return list(_unconsumed.values())


def decorate(
    target: Any,
    decorator: str,
    *,
    flags: frozenset[str] = frozenset(),
    web: WebConfig | None = None,
    **changes: Any,
) -> PartialFunction:
    """Add one decorator's settings to a function, or to the `PartialFunction` of other decorators."""
    if under := getattr(type(target), "declared_by", None):
        raise InvalidError(
            f"Cannot stack `@modal.{decorator}` on top of `{under}`. "
            "Hint: swap the order of the decorators."
        )
    if inspect.isclass(target) and decorator not in OF_CLASSES:
        raise InvalidError(
            f"Cannot apply `@modal.{decorator}` to a class. "
            "Hint: consider applying to a method instead."
        )
    if isinstance(target, PartialFunction):
        partial = target
    elif callable(target) or isinstance(target, (staticmethod, classmethod)):
        partial = PartialFunction(target)
    else:
        raise InvalidError(f"The object wrapped by `@modal.{decorator}` must be callable.")
    if web is not None and partial.web is not None:
        raise InvalidError("Cannot set `webhook_config` twice.")
    if "method" in flags and "method" in partial.flags:
        raise InvalidError("Cannot set `is_generator` twice.")
    if changes.get("concurrent") and partial.concurrent:
        raise InvalidError("Cannot set `max_concurrent_inputs` twice.")
    partial.flags |= flags | ({web.kind} if web else frozenset())
    partial.web = web or partial.web
    for name, value in changes.items():
        setattr(partial, name, value)
    _check(partial)
    return partial


def _check(partial: PartialFunction) -> None:
    interface = partial.flags & (CALLABLE | WEB)
    if interface and partial.flags & LIFECYCLE:
        raise InvalidError("Interface decorators cannot be combined with lifecycle decorators.")
    if partial.flags & CALLABLE and partial.flags & WEB:
        raise InvalidError("Callable decorators cannot be combined with web interface decorators.")


def no_positional(decorator: str, args: tuple[Any, ...], keyword: str | None = None) -> None:
    """Refuse `@modal.x` without parentheses and `@modal.x("y")`; the error says what to write."""
    if not args:
        return
    value = args[0]
    if callable(value) or isinstance(value, PartialFunction):
        raise MisuseError(
            "Positional arguments are not allowed. Did you forget parentheses? "
            f"Suggestion: `@modal.{decorator}()`."
        )
    suggestion = f'{keyword}="{value}"' if keyword else ""
    raise MisuseError(
        f"Positional arguments are not allowed. Suggestion: `@modal.{decorator}({suggestion})`."
    )


Decorator = Callable[[Any], PartialFunction]
