"""`Server`: a class whose enter hooks start an HTTP server, which answers the requests to its URL.

Two decorators make one: `@app.server()`, and `@modal.experimental.http_server()` under `@app.cls()`. homeport
treats both in the same way; only the keywords, the default of the authentication and the object differ.
"""

import inspect
import math
from collections.abc import Iterable, Mapping
from typing import Any

from homeport.contract import names, validate
from homeport.sdk import notices
from homeport.sdk.exception import InvalidError, MisuseError, UnimplementedError
from homeport.sdk.objects import checks, exchange
from homeport.sdk.objects import cls as classes
from homeport.sdk.objects import options as keywords
from homeport.sdk.objects.cls import Cls
from homeport.sdk.objects.function import named, own_target
from homeport.sdk.objects.parameters import parameters_of
from homeport.sdk.objects.partial import (
    CALLABLE,
    LIFECYCLE,
    WEB,
    Decorator,
    PartialFunction,
    ServerConfig,
    decorate,
)
from homeport.sdk.objects.scaling import AutoscalerSettings, Scaled
from homeport.sdk.objects.target import Target
from homeport.sdk.objects.urls import url_of

STARTUP_S = 30.0
#: Seconds for running requests when a container has to end, unless the script sets another value.
GRACE_S = 30.0
#: Keywords of `@app.server` that `@app.cls` does not have -> their defaults.
DEFAULTS: dict[str, Any] = {
    "name": None,  # a name instead of the class's own; it is part of the URL
    "port": 8000,  # where the server listens, on 127.0.0.1 or 0.0.0.0
    "unauthenticated": False,  # True: answer requests without a proxy token, too
    "target_concurrency": None,  # requests at once for which there is one container; None: `max_concurrency`
    "max_concurrency": None,  # requests at once that a container takes, at most 1000; more of them wait
    "startup_timeout": STARTUP_S,  # seconds for imports and enter hooks, and then again until the port accepts
    "exit_grace_period": None,  # seconds that running requests may continue when a container is to end; None: 30
    "h2_enabled": False,  # not there yet: requests reach the server as HTTP/1.1
    "scaleup_window": None,  # homeport starts containers at once
    "compute_region": None,  # as `region` of `@app.function`
}
#: Keywords that `@app.cls` has too.
SHARED = (
    *("image", "env", "secrets", "gpu", "serialized", "volumes", "cpu", "memory", "ephemeral_disk"),
    *("min_containers", "max_containers", "buffer_containers", "scaledown_window"),
    *("routing_region", "cloud", "nonpreemptible", "proxy", "i6pn"),
    *("enable_memory_snapshot", "include_source", "experimental_options"),
)
#: Accepted without effect.
IGNORED = ("scaleup_window",)
#: Keywords of other decorators -> the keyword or behaviour of a server in their place.
INSTEAD = {
    "requires_proxy_auth": "a server asks for a proxy token unless it has `unauthenticated=True`",
    "label": "use `name`",
    "timeout": "a request to a server has no time limit; `startup_timeout` limits the start",
    "max_inputs": "use `max_concurrency`",
    "target_inputs": "use `target_concurrency`",
    "retries": "a server has no calls that could be tried again",
    "proxy_regions": "use `routing_region`, which is accepted and has no effect here",
    "routing_regions": "use `routing_region`, which is accepted and has no effect here",
    "region": "use `compute_region`",
}


class Reached:
    """The requests that a script may make about a server, whether declared here or looked up."""

    concurrent: "PartialFunction | None" = None  # of a declared one: its settings

    @exchange.operation
    def get_url(self) -> "exchange.Steps[str | None]":
        """Return the server's URL."""
        return (yield from url_of(self.target()))

    @exchange.operation
    def get_urls(self) -> "exchange.Steps[list[str]]":
        """Return the server's URL in a list, as an earlier version of Modal does."""
        url = yield from url_of(self.target())
        return [url] if url else []

    @exchange.operation
    def update_autoscaler(
        self,
        *,
        target_concurrency: "float | None" = None,  # 0: one container for any number of requests
        min_containers: "int | None" = None,
        max_containers: "int | None" = None,
        buffer_containers: "int | None" = None,
        scaleup_window: "float | None" = None,  # homeport starts containers at once
        scaledown_window: "float | None" = None,
    ) -> "exchange.Steps[AutoscalerSettings]":
        """Change how many containers the server has, until the next deploy; settings that are not given stay."""
        if scaleup_window:
            notices.say("`scaleup_window` is accepted and has no effect here")
        most = _most(self.concurrent)
        return (
            yield from Scaled(self.target()).changed(
                min_containers=min_containers,
                max_containers=max_containers,
                buffer_containers=buffer_containers,
                scaledown_window=scaledown_window,
                target_inputs=None
                if target_concurrency is None
                else _target(target_concurrency, most),
            )
        )

    def target(self) -> Target:
        """Return which server of which app this is."""
        raise NotImplementedError


class Server(Reached, Cls):
    """The object that `@app.server()` makes of a class: an HTTP server with a URL."""

    declared_by = "@app.server()"

    def target(self) -> Target:
        """Return which server of which app this is; `ExecutionError` if the app does not run."""
        return own_target(f"{self.__name__}.*", self.hydrated)

    def hydrate(self, *_args: Any, **_kwargs: Any) -> "Server":
        """Return the server itself: nothing has to be loaded before it is used."""
        return self

    @staticmethod
    def from_name(  # type: ignore[override] # the original's
        app_name: str,
        name: str,
        *,
        environment_name: "str | None" = None,
        client: Any = None,  # noqa: ARG004 - homeport makes its own
        **_options: Any,
    ) -> "NamedServer":
        """Return a server of a deployed app; the first use checks that it exists."""
        return NamedServer(named(app_name, f"{name}.*", None, environment_name))

    def __call__(self, *_args: Any, **_kwargs: Any) -> Any:
        raise InvalidError(
            f"`{self.__name__}` is a server, so it has no objects: send requests to `{self.__name__}.get_url()`"
        )

    def __repr__(self) -> str:
        return f"Server({self.__name__})"


class NamedServer(Reached):
    """A server that was looked up by its name: its code is elsewhere."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def target(self) -> Target:
        """Return which server of which app this is."""
        return self._target

    def hydrate(self, *_args: Any, **_kwargs: Any) -> "NamedServer":
        """Return the server itself: nothing has to be loaded before it is used."""
        return self

    def __repr__(self) -> str:
        return f"Server({self._target.tag.removesuffix('.*')})"


def http_server(
    port: int,  # where the server listens, on 127.0.0.1 or 0.0.0.0
    *,
    proxy_regions: Iterable[
        str
    ] = (),  # Modal's regions for requests; here they come to this machine
    startup_timeout: float = STARTUP_S,  # seconds from the end of the enter hooks until the port must accept
    exit_grace_period: "float | None" = None,  # seconds that running requests may continue at the end; None: 30
    h2_enabled: bool = False,  # not there yet: requests reach the server as HTTP/1.1
) -> Decorator:
    """Make a class under `@app.cls()` an HTTP server: its enter hooks start a program that listens on `port`."""
    config = _config("modal.experimental.http_server", port, startup_timeout, exit_grace_period)
    _no_h2(h2_enabled)
    if proxy_regions:
        notices.say("`proxy_regions` is accepted and has no effect here")

    def wrap(target: Any) -> PartialFunction:
        raw = target.raw if isinstance(target, PartialFunction) else target
        if not inspect.isclass(raw):
            raise InvalidError(
                "The `@modal.experimental.http_server` decorator must be used on a class. "
                "For a function there is `@modal.web_server`."
            )
        if isinstance(target, PartialFunction) and target.server is not None:
            raise InvalidError(f"Class {raw.__name__} has `@modal.experimental.http_server` twice.")
        check(raw)
        return decorate(target, "experimental.http_server", server=config)

    return wrap


def declare(app: Any, keywords_given: Mapping[str, Any]) -> Any:
    """Return the decorator `@app.server(…)`."""
    options, own = _read(keywords_given)
    config = _config(
        "app.server", own["port"], own["startup_timeout"], own["exit_grace_period"],
        requires_proxy_auth=not own["unauthenticated"],
    )  # fmt: skip
    most, target_concurrency = own["max_concurrency"], own["target_concurrency"]
    limit = _limit(most)
    target_inputs = None if target_concurrency is None else _target(target_concurrency, limit)

    def wrap(target: Any) -> Server:
        raw = target.raw if isinstance(target, PartialFunction) else target
        if not inspect.isclass(raw):
            raise TypeError("The @app.server() decorator must be used on a class.")
        if isinstance(target, PartialFunction):
            raise InvalidError(_decorated(raw, target))
        check(raw)
        checks.check_class(raw, options)
        partial = PartialFunction(raw, max_inputs=limit, target_inputs=target_inputs, server=config)
        partial.consume()
        server = Server(raw, options, app, partial)
        if own["name"] is not None:
            if not isinstance(own["name"], str) or not own["name"].isidentifier():
                raise InvalidError(f"`name={own['name']!r}` must be an identifier of Python")
            server.__name__ = own["name"]
        for partial_of_class in server.partials.values():
            partial_of_class.consume()
        return server

    return wrap


def check(raw: type) -> None:
    """Raise `InvalidError` for a class that cannot be a server."""
    name = raw.__name__
    partials = classes.partials_of(raw)
    if not any(p.flags & (LIFECYCLE - {"exit"}) for p in partials.values()):
        raise InvalidError(f"Server class {name} must have an @modal.enter() to setup the server.")
    if any(p.flags & CALLABLE for p in partials.values()):
        raise InvalidError(
            f"Server class {name} cannot have @modal.method() decorated functions. "
            "Servers only expose HTTP endpoints."
        )
    if any(p.flags & WEB for p in partials.values()):
        raise InvalidError(
            f"Server class {name} cannot have web methods: all requests go to the port. "
            "Put them into a class of their own"
        )
    if any(p.concurrent for p in partials.values()):
        raise InvalidError(
            "The `@modal.concurrent` decorator cannot be used on methods; decorate the class instead."
        )
    if parameters_of(raw):
        raise InvalidError(f"Server class {name} cannot have parameters: it has one URL.")
    if raw.__init__ is not object.__init__:  # type: ignore[misc] # the class itself is asked
        raise InvalidError(
            f"Server class {name} cannot have a custom __init__ method. "
            "Use @modal.enter() for initialization logic instead."
        )


def _read(keywords_given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options that `@app.cls` has too, and the server's own."""
    allowed = [*SHARED, *DEFAULTS]
    for key in keywords_given:
        if key not in allowed:
            import difflib

            near = difflib.get_close_matches(key, allowed, 1)
            hint = f" Did you mean `{near[0]}`?" if near else ""
            if key in INSTEAD:
                hint = f": {INSTEAD[key]}"
            raise MisuseError(
                f"`@app.server` got an unexpected keyword argument `{key}`{hint or '.'}"
            )
    own = {**DEFAULTS, **{key: value for key, value in keywords_given.items() if key in DEFAULTS}}
    _no_h2(own["h2_enabled"])
    for key in IGNORED:
        if own[key]:
            notices.say(f"`{key}` is accepted and has no effect here")
    shared = {key: value for key, value in keywords_given.items() if key in SHARED}
    startup = own["startup_timeout"]
    region = own["compute_region"]
    return keywords.read("cls", {**shared, "startup_timeout": startup, "region": region}), own


def _config(
    decorator: str,
    port: Any,
    startup_timeout: Any,
    exit_grace_period: Any,
    *,
    requires_proxy_auth: bool = False,
) -> ServerConfig:
    if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535:
        raise MisuseError(
            f"Port must be a positive integer between 1 and 65535, such as `@{decorator}(port=8000)`."
        )
    if not _is_number(startup_timeout) or not 0 < startup_timeout <= validate.TIMEOUT_S[1]:
        raise InvalidError(
            f"The `startup_timeout` argument of `@{decorator}` must be positive, and at most 24 hours."
        )
    grace = GRACE_S if exit_grace_period is None else exit_grace_period
    if not _is_number(grace) or not 0 <= grace <= validate.MAX_GRACE_S:
        raise InvalidError(
            f"The `exit_grace_period` argument of `@{decorator}` must be between 0 and 3600 seconds."
        )
    return ServerConfig(
        port=port,
        startup_timeout=float(startup_timeout),
        exit_grace_period=float(grace),
        requires_proxy_auth=requires_proxy_auth,
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _no_h2(enabled: Any) -> None:
    if enabled:
        raise UnimplementedError(
            "`h2_enabled=True` is not there yet in homeport: requests reach a server as HTTP/1.1"
        )


def _limit(most: Any) -> int:
    """Return how many requests at once a container takes; 0 and None mean as many as homeport allows."""
    if most is None:
        return names.MAX_INPUTS
    if isinstance(most, bool) or not isinstance(most, int) or most < 0:
        raise InvalidError(f"`max_concurrency` must be a non-negative int, not {most!r}")
    return min(most, names.MAX_INPUTS) or names.MAX_INPUTS


def _target(target_concurrency: Any, limit: int) -> int:
    """Return the number of requests for which there is one container; 0 means as many as a container takes."""
    if not _is_number(target_concurrency) or target_concurrency < 0:
        raise InvalidError(
            f"`target_concurrency` must be a non-negative number, not {target_concurrency!r}"
        )
    if target_concurrency > limit and limit < names.MAX_INPUTS:
        raise InvalidError(
            f"`target_concurrency` ({target_concurrency:g}) cannot be greater than `max_concurrency` ({limit})"
        )
    return min(math.ceil(target_concurrency), limit) or limit


def _most(partial: "PartialFunction | None") -> int:
    return (partial.max_inputs if partial else None) or names.MAX_INPUTS


def _decorated(raw: type, partial: PartialFunction) -> str:
    if partial.concurrent:
        return (
            f"Server class {raw.__name__} cannot be decorated with `@modal.concurrent()`. "
            "Please use `target_concurrency` param instead."
        )
    return (
        f"Server class {raw.__name__} cannot have @modal.experimental.http_server(), "
        "because `@app.server()` makes it an HTTP server already."
    )
