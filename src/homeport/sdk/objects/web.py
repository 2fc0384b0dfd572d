"""The web decorators: `fastapi_endpoint`, `asgi_app`, `wsgi_app`, `web_server`."""

import inspect
from collections.abc import Iterable
from typing import Any

from homeport.contract import methods, names
from homeport.sdk.exception import DeprecationError, InvalidError, MisuseError
from homeport.sdk.objects.partial import (
    Decorator,
    PartialFunction,
    WebConfig,
    decorate,
    no_positional,
)


def fastapi_endpoint(
    *args: Any,
    method: str = "GET",  # one HTTP method
    label: str | None = None,  # the URL's label instead of `<app>-<function>`
    custom_domains: Iterable[str] | None = None,  # more hosts for this URL; point their DNS here
    docs: bool = False,  # serve /docs, /redoc and /openapi.json too
    requires_proxy_auth: bool = False,  # answer 401 to a request without a proxy token
) -> Decorator:
    """Make a function the one route of a FastAPI app, at `/`."""
    no_positional("fastapi_endpoint", args, "method")
    if not isinstance(method, str):
        raise MisuseError(f'`method` must be a string such as "POST", not {method!r}')
    if method.upper() not in names.HTTP_METHODS:
        raise InvalidError(
            f"`method={method!r}` is not an HTTP method. "
            f"Use one of: {', '.join(names.HTTP_METHODS)}"
        )
    config = WebConfig(
        kind="fastapi_endpoint",
        method=method.upper(),
        docs=bool(docs),
        label=_label(label),
        custom_domains=_domains(custom_domains),
        requires_proxy_auth=bool(requires_proxy_auth),
    )

    def wrap(target: Any) -> PartialFunction:
        return decorate(target, "fastapi_endpoint", web=config)

    return wrap


def asgi_app(
    *args: Any,
    label: str | None = None,
    custom_domains: Iterable[str] | None = None,
    requires_proxy_auth: bool = False,
) -> Decorator:
    """Serve the ASGI app that the function returns; it is called once per container."""
    no_positional("asgi_app", args, "label")
    return _factory("asgi_app", label, custom_domains, requires_proxy_auth)


def wsgi_app(
    *args: Any,
    label: str | None = None,
    custom_domains: Iterable[str] | None = None,
    requires_proxy_auth: bool = False,
) -> Decorator:
    """Serve the WSGI app that the function returns; it is called once per container."""
    no_positional("wsgi_app", args, "label")
    return _factory("wsgi_app", label, custom_domains, requires_proxy_auth)


def web_server(
    port: int,  # the port of the program, on 127.0.0.1 or 0.0.0.0
    *,
    startup_timeout: float = 5.0,  # seconds until the port must accept connections
    label: str | None = None,
    custom_domains: Iterable[str] | None = None,
    requires_proxy_auth: bool = False,
) -> Decorator:
    """Serve a program that listens on `port`. The function starts it, once per container, and returns."""
    if isinstance(port, bool) or not isinstance(port, int) or not 1 <= port <= 65535:
        raise MisuseError(
            "First argument of `@web_server` must be a local port, such as `@web_server(8000)`."
        )
    if startup_timeout <= 0:
        raise InvalidError("The `startup_timeout` argument of `@web_server` must be positive.")
    return _factory(
        "web_server",
        label,
        custom_domains,
        requires_proxy_auth,
        port=port,
        startup_timeout=float(startup_timeout),
    )


def web_endpoint(*_args: Any, **_kwargs: Any) -> Decorator:
    """Raise an error: Modal has renamed it to `fastapi_endpoint`."""
    raise DeprecationError(
        "Deprecated on 2025-03-05: `modal.web_endpoint` has been renamed to "
        "`modal.fastapi_endpoint`."
    )


def _factory(
    kind: str,
    label: str | None,
    custom_domains: Iterable[str] | None,
    requires_proxy_auth: bool,
    **more: Any,
) -> Decorator:
    config = WebConfig(
        kind=kind,
        label=_label(label),
        custom_domains=_domains(custom_domains),
        requires_proxy_auth=bool(requires_proxy_auth),
        **more,
    )

    def wrap(target: Any) -> PartialFunction:
        raw = target.raw if isinstance(target, PartialFunction) else target
        if inspect.iscoroutinefunction(raw) or inspect.isasyncgenfunction(raw):
            raise InvalidError(
                f"The `@modal.{kind}` decorator can't be applied to an async function."
            )
        if inspect.isfunction(raw) and _parameters(raw):
            raise InvalidError(f"Functions decorated by `@modal.{kind}` can't have parameters.")
        return decorate(target, kind, web=config)

    return wrap


def _parameters(function: Any) -> list[str]:
    names = list(inspect.signature(function).parameters)
    return names[1:] if names[:1] == ["self"] else names


def _label(label: str | None) -> str | None:
    if label is None:
        return None
    if not isinstance(label, str):
        raise MisuseError(f"`label` must be a string, not {label!r}")
    if not names.is_label(label):
        raise InvalidError(
            f"`label={label!r}` cannot be part of a URL. Use lower-case letters, digits and dashes, "
            "at most 63, not only digits and without a dash at either end."
        )
    return label


def _domains(domains: Iterable[str] | None) -> tuple[str, ...]:
    if isinstance(domains, str):
        raise AssertionError("custom_domains must be `Iterable[str]` but is `str` instead.")  # noqa: TRY004 - the original's
    domains_found = []
    for text in domains or ():
        try:
            domains_found.append(methods.domain(text))
        except (ValueError, AttributeError):
            raise InvalidError(f"`{text}` is not a domain name.") from None
    return tuple(domains_found)
