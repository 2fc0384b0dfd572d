"""The rules for a class under `@app.cls`, and for web functions."""

import inspect
from typing import Any

from homeport.sdk.exception import InvalidError
from homeport.sdk.objects.cls import parameters_of, partials_of
from homeport.sdk.objects.partial import CALLABLE, WEB, PartialFunction


def check(raw: type, options: dict[str, Any]) -> None:
    """Raise `InvalidError` for a class that `@app.cls` does not take."""
    partials = partials_of(raw)
    parameters = parameters_of(raw)
    custom = next((c for c in raw.__mro__ if "__init__" in vars(c) and c is not object), None)
    if custom is not None:
        if parameters:
            raise InvalidError(
                "A class can't have both a custom __init__ constructor and dataclass-style "
                "modal.parameter() annotations"
            )
        required = [
            p
            for p in list(inspect.signature(vars(custom)["__init__"]).parameters.values())[1:]
            if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        ]
        if required:
            raise InvalidError(
                f"Modal class {raw.__name__} cannot have a custom constructor (__init__) method "
                "with parameters. Use `modal.parameter()` annotations and `@modal.enter()` instead."
            )
    for partial in partials.values():
        if partial.concurrent:
            raise InvalidError(
                "The `@modal.concurrent` decorator cannot be used on methods; "
                "decorate the class instead."
            )
        if partial.web is not None and is_generator(partial.raw):
            raise InvalidError(generator_text(partial))
        if "enter_pre_snapshot" in partial.flags and not options["enable_memory_snapshot"]:
            raise InvalidError(
                "A class must have `enable_memory_snapshot=True` to use `snap=True` on its methods."
            )
    interfaces = [p for p in partials.values() if p.flags & (CALLABLE | WEB)]
    batched = [p for p in interfaces if "batched" in p.flags]
    if len(batched) > 1:
        raise InvalidError(f"Modal class {raw.__name__} can only have one batched function.")
    if batched and len(interfaces) > 1:
        raise InvalidError(
            f"Modal class {raw.__name__} with a modal batched function cannot have other modal methods."
        )
    servers = [p for p in interfaces if p.web is not None and p.web.kind == "web_server"]
    ports = [partial.web.port for partial in servers if partial.web is not None]
    if twice := next((port for port in ports if ports.count(port) > 1), None):
        raise InvalidError(
            f"Modal class {raw.__name__}: two `web_server`s have port {twice}, and one container "
            "runs both. Give one of them another port."
        )


def generator_text(partial: PartialFunction) -> str:
    """Return the error for a generator as a web function."""
    text = "Webhooks cannot be generators"
    if partial.web is not None and partial.web.kind == "fastapi_endpoint":
        text += ". To stream, return a `fastapi.responses.StreamingResponse` of a generator"
    return text


def is_generator(function: Any) -> bool:
    """Return whether a call of the function returns a generator, sync or async."""
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
