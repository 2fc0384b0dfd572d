"""The rules for what `@app.function`, `@app.cls` and `@app.server` decorate."""

import inspect
from typing import Any

from homeport.sdk import notices
from homeport.sdk.exception import InvalidError, LocalFunctionError, MisuseError, UnimplementedError
from homeport.sdk.objects.cls import partials_of
from homeport.sdk.objects.image import Image
from homeport.sdk.objects.parameters import parameters_of
from homeport.sdk.objects.partial import CALLABLE, WEB, PartialFunction


def check_class(raw: type, options: dict[str, Any]) -> None:
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


def refuse_positional(decorator: str, args: tuple[Any, ...]) -> None:
    """Raise `MisuseError` for a decorator with a positional argument, or without parentheses."""
    if not args:
        return
    value = args[0]
    if isinstance(value, Image):
        raise MisuseError(
            f"`image` needs to be a keyword argument: `@app.{decorator}(image=image)`."
        )
    raise MisuseError(f"Did you forget parentheses? Suggestion: `@app.{decorator}()`.")


def as_partial(target: Any) -> PartialFunction:
    """Return the function below `@app.function`, with what decorators between have noted of it."""
    if inspect.isclass(target) or (
        isinstance(target, PartialFunction) and inspect.isclass(target.raw)
    ):
        raise TypeError(
            "The `@app.function` decorator cannot be used on a class. Please use `@app.cls` instead."
        )
    partial = target if isinstance(target, PartialFunction) else PartialFunction(target)
    if not callable(partial.raw):
        raise InvalidError("The object wrapped by `@app.function` must be callable.")
    partial.consume()
    return partial


def check_function(partial: PartialFunction, options: dict[str, Any]) -> None:
    """Raise for a function that `@app.function` does not take."""
    raw = partial.raw
    qualname = getattr(raw, "__qualname__", partial.name)
    in_class = "." in qualname and not qualname.rpartition(".")[0].endswith("<locals>")
    if "method" in partial.flags or in_class:
        raise InvalidError(
            "The `@app.function` decorator cannot be used on class methods. "
            "Please use `@app.cls` on the class and `@modal.method()` on the method."
        )
    check_scope(raw, "function", options, web=partial.web is not None)
    generator = is_generator(raw)
    if partial.web is not None:
        if generator:
            raise InvalidError(generator_text(partial))
        if options["retries"] is not None:
            raise InvalidError("Web Functions do not support retries.")
    elif generator and options["retries"] is not None:
        raise InvalidError("Generator Functions do not support retries.")
    if "batched" in partial.flags:
        if generator:
            raise InvalidError(f"Modal batched function {partial.name} cannot return generators")
        if any(p.default is not p.empty for p in inspect.signature(raw).parameters.values()):
            raise InvalidError(
                f"Modal batched function {partial.name} does not accept default arguments."
            )
    if partial.concurrent:
        check_concurrent(partial)
    if options["schedule"] is not None and partial.web is not None:
        notices.say(
            f"the schedule of the web function `{partial.name}` has no effect: "
            "give it to a function without a URL"
        )
    elif options["schedule"] is not None:
        required = [
            p for p in inspect.signature(raw).parameters.values()
            if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        ]  # fmt: skip
        if required:
            raise InvalidError(
                f"Function {partial.name} has a schedule, so it needs to support being called "
                "with no arguments"
            )


def check_scope(raw: Any, decorator: str, options: dict[str, Any], *, web: bool = False) -> None:
    """Raise for a function or class that is declared inside a function."""
    if "<locals>" not in getattr(raw, "__qualname__", ""):
        return
    if options["serialized"]:
        raise UnimplementedError(
            "`serialized=True` is not there yet in homeport: declare it at module level"
        )
    if web:
        raise LocalFunctionError(
            "Modal can only import functions defined in global scope unless they are "
            "`serialized=True`"
        )
    kinds = "functions" if decorator == "function" else "classes"
    raise InvalidError(
        f"The `@app.{decorator}` decorator must apply to {kinds} in global scope, "
        "unless `serialized=True` is set."
    )


def check_concurrent(partial: PartialFunction) -> None:
    """Raise `TypeError` for `@modal.concurrent()` without a number."""
    if partial.max_inputs is None:
        raise TypeError("`@modal.concurrent()` missing required argument: `max_inputs`.")
