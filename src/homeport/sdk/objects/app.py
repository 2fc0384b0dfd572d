"""`App`: a named collection of functions and classes."""

import inspect
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from homeport.contract import names
from homeport.sdk import gone, location
from homeport.sdk.exception import InvalidError, UnimplementedError
from homeport.sdk.objects import blocking, checks
from homeport.sdk.objects import options as keywords
from homeport.sdk.objects.cls import Cls
from homeport.sdk.objects.function import Function
from homeport.sdk.objects.image import Image
from homeport.sdk.objects.mounts import check_volumes
from homeport.sdk.objects.partial import PartialFunction
from homeport.sdk.objects.secret import Secret

if TYPE_CHECKING:
    from homeport.sdk.objects.running import Hydrated, Runs

#: Keywords of `_experimental_server` -> their names of `server`.
EARLIER_KEYWORDS = {
    "region": "compute_region",
    "routing_regions": "routing_region",
    "proxy_regions": "routing_region",
}
PENDING = ("stop", "logs", "info", "stats", "set_tags", "get_tags")


class LocalEntrypoint:
    """A function that `homeport run` calls on the user's machine; calling it calls the function."""

    def __init__(self, raw: Callable[..., Any], name: str, app: "App") -> None:
        self.raw, self.name, self.app = raw, name, app

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.raw(*args, **kwargs)


class App:
    """A named collection of functions and classes that are deployed together.

    A script makes one at its top. Its name is the name of the deployment, and part of each URL.
    """

    def __init__(
        self,
        name: str | None = None,  # letters, digits, `-`, `_`, `.`; at most 64
        *,
        tags: dict[str, str] | None = None,  # any words; homeport only keeps them
        image: Image | None = None,  # for every function that has no image of its own
        secrets: Sequence[Secret] = (),  # for every function, before its own
        volumes: dict[Any, Any]
        | None = None,  # mount path -> `Volume`, for every function; a function's own mounts win
        include_source: bool = True,  # upload the script and the local modules that it imports
    ) -> None:
        if name is not None and not isinstance(name, str):
            raise InvalidError("Invalid value for `name`: Must be string.")
        if image is not None and not isinstance(image, Image):
            raise InvalidError("`image=` has to be a `modal.Image` object")
        for key, value in (tags or {}).items():
            for part, text in (("key", key), ("value", value)):
                if not isinstance(text, str) or not names.is_tag(text):
                    raise InvalidError(f"Invalid tag {part}: '{text}'.")
        self.name = name
        self.tags = dict(tags or {})
        self.image = image
        self.secrets = keywords.check_secrets(secrets)
        self.volumes = check_volumes(volumes if volumes is not None else {})
        self.include_source = include_source
        self.where = location.here()
        self.functions: dict[str, Function] = {}
        self.classes: dict[str, Cls] = {}
        self.entrypoints: dict[str, LocalEntrypoint] = {}
        self.session: Hydrated | None = None  # inside `with app.run():`
        self._app_id: str | None = None

    # running it

    @property
    def run(self) -> "Runs":
        """`with app.run():` serves the app's functions as long as the block lasts, so that it can call them."""
        from homeport.sdk.objects.running import Runs  # only where it is used

        return Runs(self)

    @blocking.method
    def deploy(
        self,
        *,
        name: str | None = None,  # instead of the app's own
        environment_name: str | None = None,
        tag: str = "",  # a name for this version, shown by `homeport app history`
        client: Any = None,  # noqa: ARG002 - homeport makes its own
        strategy: str = "rolling",  # `recreate` ends the old containers first
    ) -> "App":
        """Deploy the app to the background server, as `homeport deploy` does; returns this app."""
        from homeport.sdk.objects import running

        running.deploy(self, name or "", tag=tag, strategy=strategy, environment=environment_name)
        return self

    def hydrate(self, session: "Hydrated | None") -> None:
        """Set where this app's functions are; None if they are nowhere any more."""
        self.session = session
        for declared in (*self.functions.values(), *self.classes.values()):
            if session is not None:
                declared.sessions.append(session)
            elif declared.sessions:
                declared.sessions.pop()

    # look-ups

    @property
    def app_id(self) -> str | None:
        """The id of an app that `App.lookup` has found; None before."""
        return self._app_id

    @property
    def description(self) -> str | None:
        """The app's name."""
        return self.name

    @property
    def registered_functions(self) -> dict[str, Function]:
        """The functions, by tag."""
        return dict(self.functions)

    @property
    def registered_classes(self) -> dict[str, Cls]:
        """The classes, by name."""
        return dict(self.classes)

    @property
    def registered_entrypoints(self) -> dict[str, LocalEntrypoint]:
        """The local entrypoints, by name."""
        return dict(self.entrypoints)

    @property
    def registered_web_endpoints(self) -> list[str]:
        """The tags of the web functions, methods as `Cls.method`."""
        tags = [tag for tag, function in self.functions.items() if function.partial.web]
        for name, cls in self.classes.items():
            tags += [f"{name}.{method}" for method in cls.web_methods()]
        return tags

    # decorators

    def function(self, *args: Any, **keyword_arguments: Any) -> Callable[[Any], Function]:
        """Declare a function; see the keywords in `options.DEFAULTS`."""
        checks.refuse_positional("function", args)
        options = keywords.read("function", keyword_arguments)

        def wrap(target: Any) -> Function:
            partial = checks.as_partial(target)
            if options["is_generator"] is not None:
                partial.is_generator = options["is_generator"]
            checks.check_function(partial, options)
            tag = options["name"] or partial.raw.__qualname__
            function = Function(tag, partial, options, self)
            earlier = self.functions.get(tag)
            if earlier is not None and earlier.raw is not partial.raw:
                module = partial.raw.__module__
                warnings.warn(
                    f"function name '{tag}' collision! Overriding existing function "
                    f"[{earlier.raw.__module__}].{tag} with new function [{module}].{tag}",
                    stacklevel=2,
                )
            self.functions[tag] = function
            return function

        return wrap

    def cls(self, *args: Any, **keyword_arguments: Any) -> Callable[[Any], Cls]:
        """Declare a class."""
        checks.refuse_positional("cls", args)
        options = keywords.read("cls", keyword_arguments)

        def wrap(target: Any) -> Cls:
            concurrent = target if isinstance(target, PartialFunction) else None
            raw = target.raw if concurrent else target
            if not inspect.isclass(raw):
                raise TypeError("The @app.cls decorator must be used on a class.")
            checks.check_scope(raw, "cls", options)
            checks.check_class(raw, options)
            if concurrent:
                if concurrent.server is None:
                    checks.check_concurrent(concurrent)
                concurrent.consume()
            cls = Cls(raw, options, self, concurrent)
            for partial in cls.partials.values():
                partial.consume()
            if any(p.web for p in cls.partials.values()) and options["retries"] is not None:
                raise InvalidError("Web Functions do not support retries.")
            self.classes[raw.__name__] = cls
            return cls

        return wrap

    def server(self, *args: Any, **keyword_arguments: Any) -> Callable[[Any], Cls]:
        """Declare a class whose enter hooks start an HTTP server."""
        checks.refuse_positional("server", args)
        from homeport.sdk.objects import server as servers  # few scripts have one

        declared = servers.declare(self, keyword_arguments)

        def wrap(target: Any) -> Cls:
            server: Cls = declared(target)
            checks.check_scope(server.raw, "server", server.options)
            self.classes[server.__name__] = server
            return server

        return wrap

    def _experimental_server(self, *args: Any, **keyword_arguments: Any) -> Callable[[Any], Cls]:
        """Declare a server as scripts of early 2026 do: the decorator and some of its keywords had other names."""
        renamed = {
            EARLIER_KEYWORDS.get(name, name): value for name, value in keyword_arguments.items()
        }
        return self.server(*args, **renamed)

    def local_entrypoint(self, *args: Any, name: str | None = None) -> Callable[[Any], Any]:
        """Declare a function for `homeport run`, which runs it here and not in a container."""
        checks.refuse_positional("local_entrypoint", args)

        def wrap(raw: Callable[..., Any]) -> LocalEntrypoint:
            tag = name or raw.__qualname__
            if tag in self.entrypoints:
                raise InvalidError(
                    f"Duplicate local entrypoint name: {tag}. "
                    "Local entrypoint names must be unique."
                )
            self.entrypoints[tag] = LocalEntrypoint(raw, tag, self)
            return self.entrypoints[tag]

        return wrap

    def include(self, other_app: "App", inherit_tags: bool = True) -> "App":
        """Add another app's functions and classes to this app; returns this app."""
        for tag, function in other_app.functions.items():
            if self.functions.get(tag, function) is not function:
                warnings.warn(f"Overriding existing function {tag}", stacklevel=2)
            self.functions[tag] = function
        for name, cls in other_app.classes.items():
            if self.classes.get(name, cls) is not cls:
                warnings.warn(f"Overriding existing class {name}", stacklevel=2)
            self.classes[name] = cls
        if inherit_tags:
            self.tags = {**other_app.tags, **self.tags}
        return self

    @staticmethod
    def lookup(
        name: str,  # of a deployed app, or its id
        *,
        client: Any = None,  # noqa: ARG004 - homeport makes its own
        environment_name: str | None = None,
        create_if_missing: bool = False,
    ) -> "App":
        """Return a deployed app, with its `app_id`; `NotFoundError` if none has the name. `Function.from_name` has its functions."""
        from homeport.sdk.objects import running

        deployed = running.deployed_app(
            name, environment=environment_name or "", create=create_if_missing
        )
        app = App(deployed.name)
        app._app_id = deployed.app_id
        return app

    def get_dashboard_url(self) -> str:
        """Raise an error: homeport has no dashboard."""
        raise UnimplementedError("there is no dashboard; see `homeport status`")

    def __getattr__(self, name: str) -> Any:
        if name in PENDING:
            raise UnimplementedError(
                f"`App.{name}` is not there yet in homeport; "
                "use `homeport run`, `homeport serve` or `homeport deploy`"
            )
        gone.on_instance(self, name)
        raise AttributeError(f"'App' object has no attribute '{name}'")

    def __repr__(self) -> str:
        return f"App({self.name!r})"
