"""`Cls`: the object that `@app.cls` makes of a class, with its parameters, hooks and methods."""

import dataclasses
import inspect
from typing import TYPE_CHECKING, Any

from homeport.sdk import location
from homeport.sdk.exception import ExecutionError, InvalidError
from homeport.sdk.gone import Old
from homeport.sdk.objects.function import Function, named, own_target
from homeport.sdk.objects.parameters import POSITIONAL, has_default, parameters_of, spelled
from homeport.sdk.objects.partial import CALLABLE, WEB, PartialFunction, ServerConfig
from homeport.sdk.objects.target import Target
from homeport.sdk.objects.varied import Varied

if TYPE_CHECKING:
    from homeport.sdk.objects.named_cls import NamedCls


class Cls(Varied, metaclass=Old):
    """The object that `@app.cls()` makes of a class. A call returns an object with one set of parameters."""

    declared_by = "@app.cls()"

    def __init__(self, raw: type, options: dict[str, Any], app: Any, concurrent: Any) -> None:
        self.raw = raw
        self.options = options
        self.app = app
        self.where = location.here()
        self.concurrent = concurrent  # the PartialFunction of the class's own decorators, or None
        self.sessions: list[Any] = []  # inside `with app.run():`; its variants share it
        self.partials = partials_of(raw)
        self.parameters = parameters_of(raw)
        self.__name__ = raw.__name__
        self.__qualname__ = raw.__qualname__
        self.__module__ = raw.__module__
        self.__doc__ = raw.__doc__
        self.__wrapped__ = raw

    def __call__(self, *args: Any, **kwargs: Any) -> "Obj":
        if args and self.parameters:
            raise InvalidError(POSITIONAL)
        return Obj(self, args, kwargs)

    @property
    def hydrated(self) -> Any:
        """Where the class is served, inside `with app.run():`."""
        return self.sessions[-1] if self.sessions else None

    def construct(self, parameters: dict[str, Any]) -> Any:
        """Return an instance with its parameters as attributes; run no hook."""
        if self.parameters:
            self.check(parameters)
            instance: Any = object.__new__(self.raw)
            for name, value in parameters.items():
                setattr(instance, name, value)
            return instance
        return self.raw(**parameters)

    @property
    def server_config(self) -> "ServerConfig | None":
        """The settings of a class that is an HTTP server; None for others."""
        config: ServerConfig | None = self.concurrent and self.concurrent.server
        return config

    @property
    def _experimental_get_flash_urls(self) -> Any:
        """Return the URL of a class under `@modal.experimental.http_server()`, in a list."""
        from homeport.sdk.objects.urls import flash_urls  # only where it is used

        return flash_urls(own_target(f"{self.__name__}.*", self.hydrated))

    def hooks(self, flag: str) -> list[Any]:
        """Return the raw functions of one kind of hook, base classes first, in order of definition."""
        return [p.raw for p in self.partials.values() if flag in p.flags]

    def web_methods(self) -> dict[str, PartialFunction]:
        """Return attribute -> decorated function, for each web method."""
        return {name: p for name, p in self.partials.items() if p.web is not None}

    def methods(self) -> dict[str, PartialFunction]:
        """Return attribute -> decorated function, for each method that is called by `.remote()`."""
        return {name: p for name, p in self.partials.items() if p.flags & CALLABLE}

    def interfaces(self) -> dict[str, PartialFunction]:
        """Return attribute -> decorated function, for each web method and each method for `.remote()`."""
        return {**self.web_methods(), **self.methods()}

    def check(self, parameters: dict[str, Any]) -> None:
        """Raise an error if these are not the parameters that the class needs for a call of a method."""
        for name, (kind, field) in self.parameters.items():
            if name in parameters:
                value = parameters[name]
                if type(value) is not kind:
                    raise TypeError(f"Expected {kind.__name__}, got {type(value).__name__}")
            elif not has_default(field):
                raise InvalidError(f"Missing required parameter: {name}")
        for name in parameters:
            if name not in self.parameters:
                raise InvalidError(f"Unknown parameter: {name}")

    def query(self, parameters: dict[str, Any]) -> str:
        """Return the parameters as a query string, without those that equal their defaults."""
        self.check(parameters)
        return spelled(
            {
                name: value
                for name, value in parameters.items()
                if self.parameters[name][1].default != value
            }
        )

    @staticmethod
    def from_name(
        app_name: str,
        name: str,
        *,
        version: int | None = None,
        environment_name: str | None = None,
        client: Any = None,  # noqa: ARG004 - homeport makes its own
        **_options: Any,
    ) -> "NamedCls":
        """Return a class of a deployed app; the first call checks that it exists."""
        from homeport.sdk.objects.named_cls import NamedCls  # few scripts look one up

        return NamedCls(named(app_name, name, version, environment_name))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in self.partials:
            return _Placeholder(name)
        return getattr(self.raw, name)


class Obj:
    """A class with its parameters; makes the instance when it is first needed."""

    def __init__(self, cls: Cls, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.declared, self._args, self._kwargs = cls, args, kwargs
        self._instance: Any = None
        self._entered = False

    def instance(self, *, entered: bool) -> Any:
        """Return the user's own object; with `entered`, after its enter hooks have run."""
        if self._instance is None:
            if self.declared.parameters:
                self._instance = self.declared.construct(self._kwargs)
            else:
                self._instance = self.declared.raw(*self._args, **self._kwargs)
        if entered and not self._entered:
            self._entered = True
            for flag in ("enter_pre_snapshot", "enter_post_snapshot"):
                for hook in self.declared.hooks(flag):
                    outcome = hook(self._instance)
                    if inspect.isawaitable(outcome):
                        _finish(outcome)
        return self._instance

    def query(self) -> str:
        """Return its parameters as a query string."""
        if self._args:
            raise InvalidError(
                f"{self.declared.__name__}: the arguments of a constructor do not reach a container. "
                "Use `modal.parameter()` annotations"
            )
        return self.declared.query(self._kwargs)

    @property
    def update_autoscaler(self) -> Any:
        """Change how many containers there are for these parameters, until the next deploy."""
        from homeport.sdk.objects.scaling import Scaled  # only where it is used

        target = own_target(f"{self.declared.__name__}.*", self.declared.hydrated)
        return Scaled(dataclasses.replace(target, query=self.query())).update

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        partial = self.declared.partials.get(name)
        if partial is not None and partial.flags & (CALLABLE | WEB):
            return _Method(self, f"{self.declared.__name__}.{name}", partial)
        return getattr(self.instance(entered=False), name)


class _Method(Function):
    """A method of an `Obj`."""

    def __init__(self, obj: Obj, tag: str, partial: PartialFunction) -> None:
        super().__init__(tag, partial, {}, obj.declared.app)
        self.sessions = obj.declared.sessions
        self._obj = obj
        self._options = obj.declared._options  # noqa: SLF001 - of the class that it is a method of

    def local(self, *args: Any, **kwargs: Any) -> Any:
        """Call the method here, after the class's enter hooks."""
        return self.raw(self._obj.instance(entered=True), *args, **kwargs)

    @property
    def update_autoscaler(self) -> Any:
        """Raise an error: the containers belong to the class, not to one method."""
        raise InvalidError(
            "Cannot call .update_autoscaler() on a method. Call it on the class instance instead."
        )

    def target(self) -> Target:
        """Return where a call goes: the pool of the object's parameters."""
        return dataclasses.replace(super().target(), query=self._obj.query())


class _Placeholder:
    """A method of a class, without an instance; each use of it is an error."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            "You can't access methods on a Cls directly - Did you forget to instantiate the class "
            f"first? Write `MyClass().{self._name}.{name}`."
        )


def partials_of(raw: type) -> dict[str, PartialFunction]:
    """Return attribute -> decorated function, those of base classes included."""
    partials: dict[str, PartialFunction] = {}
    for owner in reversed(raw.__mro__):
        for name, value in vars(owner).items():
            if isinstance(value, PartialFunction):
                partials[name] = value
            else:
                partials.pop(name, None)  # a plain method replaces the base's decorated one
    return partials


def _finish(awaitable: Any) -> None:
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        asyncio.run(_await(awaitable))
        return
    awaitable.close()
    raise ExecutionError("async enter hooks cannot run here: an event loop is running already")


async def _await(awaitable: Any) -> Any:
    return await awaitable
