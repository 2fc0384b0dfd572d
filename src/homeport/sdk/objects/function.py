"""`Function`: the object that `@app.function` makes of a function, and that `Function.from_name` looks up."""

from typing import TYPE_CHECKING, Any

from homeport.sdk import context, gone
from homeport.sdk.exception import (
    ExecutionError,
    InvalidError,
    NotFoundError,
    UnimplementedError,
)
from homeport.sdk.gone import Old
from homeport.sdk.objects import environments
from homeport.sdk.objects.partial import PartialFunction
from homeport.sdk.objects.target import Target
from homeport.sdk.objects.varied import Varied

if TYPE_CHECKING:
    from homeport.contract.variants import Options
    from homeport.sdk.objects import forms
    from homeport.sdk.objects.running import Hydrated

PENDING = ("autoscaler", "keep_warm")


NOT_RUNNING = (
    "Function has not been hydrated with the metadata it needs to run on Modal, because the App it is defined on is "
    "not running. Call it inside `with app.run():` or by `homeport run`; or deploy the app, and call "
    "`modal.Function.from_name(…)`"
)


class Function(Varied, metaclass=Old):
    """A function of an app: call it with `.remote()` in a container of its own, with `.local()` here, or by its URL."""

    declared_by = "@app.function"

    def __init__(
        self, tag: str, partial: PartialFunction, options: dict[str, Any], app: Any
    ) -> None:
        self.tag = tag
        self.partial = partial
        self.options = options
        self.app = app
        self.sessions: list[Hydrated] = []  # inside `with app.run():`; its variants share it
        self.__name__ = partial.name
        self.__doc__ = partial.raw.__doc__
        self.__module__ = partial.raw.__module__
        self.__wrapped__ = partial.raw

    @property
    def hydrated(self) -> "Hydrated | None":
        """Where the function is served, inside `with app.run():`."""
        return self.sessions[-1] if self.sessions else None

    @property
    def raw(self) -> Any:
        """The user's own function."""
        return self.partial.raw

    @property
    def is_web(self) -> bool:
        """True if it has a URL; then it cannot be called."""
        return self.partial.web is not None

    @property
    def generates(self) -> bool | None:
        """True if a call returns many values; None if that is not known here."""
        return self.partial.generates

    @property
    def remote(self) -> "forms.Remote":
        """Call the function in one of its containers, and return what it returns."""
        from homeport.sdk.objects import forms  # a script that is only declared needs none of it

        return forms.Remote(self)

    @property
    def remote_gen(self) -> "forms.RemoteGen":
        """Call a generator in one of its containers, and yield its values as they come."""
        from homeport.sdk.objects import forms  # a script that is only declared needs none of it

        return forms.RemoteGen(self)

    @property
    def map(self) -> "forms.Map":
        """Call the function for each item of the iterables, many at once, and yield the results."""
        from homeport.sdk.objects import forms

        return forms.Map(self)

    @property
    def starmap(self) -> "forms.StarMap":
        """Call the function for each item, which is the arguments of one call; yield the results."""
        from homeport.sdk.objects import forms

        return forms.StarMap(self)

    @property
    def for_each(self) -> "forms.ForEach":
        """Call the function for each item of the iterables, and return nothing."""
        from homeport.sdk.objects import forms

        return forms.ForEach(self)

    @property
    def get_current_stats(self) -> Any:
        """Return how many calls wait and run, and how many containers there are."""
        return self._scaled().stats

    @property
    def update_autoscaler(self) -> Any:
        """Change how many containers the function has, until the next deploy."""
        return self._scaled().update

    @property
    def spawn(self) -> "forms.Spawn":
        """Call the function without waiting for it; return a `FunctionCall`."""
        from homeport.sdk.objects import forms

        return forms.Spawn(self)

    @property
    def spawn_map(self) -> "forms.SpawnMap":
        """Call the function for each item of the iterables without waiting for it."""
        from homeport.sdk.objects import forms

        return forms.SpawnMap(self)

    @property
    def experimental_spawn_map(self) -> "forms.SpawnMapTold":
        """The same as `spawn_map`, and return a `FunctionCall`."""
        from homeport.sdk.objects import forms

        return forms.SpawnMapTold(self)

    def local(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function in this process."""
        return self.raw(*args, **kwargs)

    def get_raw_f(self) -> Any:
        """The user's own function."""
        return self.raw

    def get_web_url(self) -> str | None:
        """Return the URL of a web function, where its app runs; None for other functions."""
        if self.hydrated is not None:
            return self.hydrated.urls.get(self.tag)
        return web_url(self.tag, is_web=self.is_web)

    def hydrate(self, *_args: Any, **_kwargs: Any) -> "Function":
        """Return the function itself: nothing has to be loaded before it is called."""
        return self

    def _scaled(self) -> Any:
        from homeport.sdk.objects.scaling import Scaled  # only where it is used

        return Scaled(self.target())

    def target(self) -> Target:
        """Return a call's target; `ExecutionError` if the app does not run."""
        return own_target(self.tag, self.hydrated).varied(self._options)

    @staticmethod
    def from_name(
        app_name: str,
        name: str,
        *,
        version: int | None = None,
        environment_name: str | None = None,
        client: Any = None,  # noqa: ARG004 - homeport makes its own
        **_options: Any,
    ) -> "Function":
        """Return a function of a deployed app; the first call checks that it exists."""
        if "." in name:
            raise InvalidError(
                f"Invalid Function name: '{name}'. If you are trying to look up a class method, "
                "use `modal.Cls.from_name` instead."
            )
        return Named(named(app_name, name, version, environment_name))

    def __call__(self, *_args: Any, **_kwargs: Any) -> Any:
        raise TypeError("'Function' object is not callable. Use `.local()` to call it here")

    def __getattr__(self, name: str) -> Any:
        if name in PENDING:
            raise UnimplementedError(f"`Function.{name}` is not there yet in homeport")
        gone.on_instance(self, name)
        raise AttributeError(f"'Function' object has no attribute '{name}'")

    def __repr__(self) -> str:
        return f"Function({self.tag})"


class Named(Function):
    """A function that was looked up by name; its code is not here."""

    def __init__(self, target: Target) -> None:
        self.tag = target.tag
        self.app = None
        self.options = {}
        self.__name__ = target.tag.rpartition(".")[2]
        self._target = target

    @property
    def raw(self) -> Any:
        """Raise an error: the code is not here."""
        raise ExecutionError(
            f"the code of `{self.tag}` of the app `{self._target.app}` is not here: "
            "call it with `.remote()`"
        )

    @property
    def is_web(self) -> bool:
        """False, because it is not known here; a call of a web function fails, because it has no endpoint for calls."""
        return False

    @property
    def generates(self) -> bool | None:
        """None, because it is not known here; the container refuses the wrong form of call."""
        return None

    @property
    def get_web_url(self) -> Any:
        """Return its URL; None if it has none."""
        return self._scaled().url

    def local(self, *_args: Any, **_kwargs: Any) -> Any:
        """Raise an error: the code is not here."""
        return self.raw

    def target(self) -> Target:
        """Return a call's target."""
        return self._target.varied(self._options)

    def _options_so_far(self) -> "Options | None":
        return self._options or self._target.options


def own_target(tag: str, hydrated: "Hydrated | None" = None) -> Target:
    """Return the target of a function of this script; `ExecutionError` if its app does not run.

    `hydrated` says where the function is, inside `with app.run():`.
    """
    if hydrated is not None:
        return Target(
            app=hydrated.app,
            tag=tag,
            scope=hydrated.scope,
            environment=hydrated.environment,
            key=hydrated.key,
        )
    reach = context.reach()
    if reach is None or not reach.app:
        raise ExecutionError(NOT_RUNNING)
    return Target(app=reach.app, tag=tag, scope=reach.scope)


def named(app_name: str, tag: str, version: int | None, environment_name: str | None) -> Target:
    """Return the target of a look-up by name: always the deployed app."""
    return Target(
        app=app_name,
        tag=tag,
        version=version,
        environment=environments.checked(environment_name),
        is_named=True,
    )


def web_url(tag: str, *, is_web: bool) -> str | None:
    """Return the URL of a web function; None for other functions, `ExecutionError` if it is not served."""
    if not is_web:
        return None
    url = context.url_of(tag)
    if url is None:
        if context.is_local():
            raise ExecutionError(NOT_RUNNING)
        raise NotFoundError(f"`{tag}` has no URL in this app")
    return url


def __getattr__(name: str) -> Any:
    """`modal.functions` has `FunctionCall`, which a script that is only declared does not need."""
    if name == "FunctionCall":
        from homeport.sdk.objects.call import FunctionCall

        return FunctionCall
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
