"""docs/reference/sdk.md, from the public names of `homeport`."""

import inspect
from collections.abc import Iterator
from typing import Any

from docs.generate import source
from docs.generate.markdown import code, sentence, table
from docs.generate.markdown import page as markdown

import homeport
from homeport.node.images.rooted import plan
from homeport.sdk.objects import image_options, options, server
from homeport.sdk.objects.pending import Pending

INTRO = """The names that a script can use, as `homeport.NAME` or `modal.NAME`: in a script that homeport loads,
`import modal` is homeport."""
OPTIONS = """The keywords of `@app.function(…)` and `@app.cls(…)`. A class takes all of them but {}. A keyword marked *ignored*
is accepted, has no effect, and the command says so once."""
FIRST = (
    "App", "fastapi_endpoint", "asgi_app", "wsgi_app", "web_server", "concurrent",
    "Cls", "parameter", "enter", "exit", "method", "Function", "Image", "Secret", "Volume",
    "FilePatternMatcher",
)  # fmt: skip
PENDING = """## Not there yet

These names exist so that a script that mentions them loads. To use one raises `UnimplementedError`, which says
so."""
REST = "## Other names"
#: Made by a decorator or a static method, never by a call of the class.
NOT_CALLED = frozenset(
    {"Cls", "Error", "Function", "Image", "Secret", "Server", "Tunnel", "Volume"}
)
#: Public for other rooms of homeport, not for scripts.
INTERNAL = frozenset(
    {
        "build_secrets",
        "construct",
        "mount",
        "get_raw_f",
        "hooks",
        "raw",
        "ref",
        "says",
        "spec",
        "target",
        "web_methods",
        "with_step",
    }
)


def page() -> str:
    """The page."""
    every = [name for name in homeport.__all__ if not name.startswith("_")]
    pending = [name for name in every if _is_pending(getattr(homeport, name))]
    rest = [name for name in every if name not in pending and name not in FIRST]
    return markdown(
        "The Python SDK",
        INTRO,
        *(part for name in FIRST for part in _name(name)),
        REST,
        *(part for name in rest for part in _name(name, level=3)),
        PENDING,
        *(f"### `{name}`\n\n{_pending(name)}" for name in pending),
    )


def _name(name: str, level: int = 2) -> Iterator[str]:
    value = getattr(homeport, name)
    mark = "#" * level
    yield f"{mark} `{name}`"
    if not inspect.isclass(value):
        yield from _function(value, name)
        return
    constructor = vars(value).get("__init__")
    yield source.summary(value)
    if name not in NOT_CALLED and constructor:
        yield f"```text\n{source.signature(constructor, name)}\n```"
        yield _parameters(constructor)
    for method, function in _methods(value):
        yield f"{mark}# `{name}.{method}`"
        if isinstance(function, property):
            yield source.summary(function)
        elif name == "App" and method == "function":
            yield _options()
        elif name == "App" and method == "cls":
            yield "Declare a class. The keywords are those of [`App.function`](#appfunction)."
        elif name == "App" and method == "server":
            yield _server()
        else:
            yield from _function(function, method)
        if name == "Image":
            yield _keywords(function)
            yield _cannot(method)


def _function(function: Any, name: str) -> Iterator[str]:
    function = inspect.unwrap(function)
    yield source.summary(function)
    yield f"```text\n{source.signature(function, name)}\n```"
    yield _parameters(function)


def _parameters(function: Any) -> str:
    rows = [
        (f"`{each.name}`", code(each.annotation), code(each.default or ""), sentence(each.comment))
        for each in source.parameters(function)
        if each.comment
    ]
    return table(("parameter", "type", "default", "meaning"), rows)


def _options() -> str:
    rows = [
        (
            f'<span id="option-{each.name}"></span>`{each.name}`',
            code(each.default or ""),
            sentence(each.comment) + (" *Ignored.*" if each.name in options.IGNORED else ""),
        )
        for each in source.keys(options, "DEFAULTS")
    ]
    not_for = ", ".join(f"`{name}`" for name in sorted(options.NOT_FOR_CLASSES))
    return "\n\n".join(
        [
            "Declare a function.",
            OPTIONS.format(not_for),
            table(("keyword", "default", "meaning"), rows),
        ]
    )


def _server() -> str:
    rows = [
        (
            f"`{each.name}`",
            code(each.default or ""),
            sentence(each.comment) + (" *Ignored.*" if each.name in server.IGNORED else ""),
        )
        for each in source.keys(server, "DEFAULTS")
    ]
    shared = ", ".join(f"`{name}`" for name in server.SHARED)
    return "\n\n".join(
        [
            "Declare a class whose enter hooks start an HTTP server: see [Servers](../guides/servers.md).",
            table(("keyword", "default", "meaning"), rows),
            f"It takes these keywords of [`App.function`](#appfunction) too: {shared}.",
        ]
    )


def _methods(cls: type) -> list[tuple[str, Any]]:
    found = []
    for name, value in vars(cls).items():
        function = value.__func__ if isinstance(value, staticmethod) else value
        function = inspect.unwrap(function)  # of `objects/blocking`
        public = not name.startswith("_") and name not in INTERNAL
        if public and (inspect.isfunction(function) or isinstance(function, property)):
            found.append((name, function))
    return found


def _keywords(function: Any) -> str:
    """What a step of an image takes as `**options`."""
    if isinstance(function, property) or not (name := source.keywords(function)):
        return ""
    names = ", ".join(f"`{key}`" for key in getattr(image_options, name).__annotations__)
    return f"`options`: {names}."


def _cannot(step: str) -> str:
    """Why an image step is an error at deploy, and what to do instead."""
    if step not in plan.ELSEWHERE:
        return ""
    why, instead = plan.ELSEWHERE[step]
    return f"*Not there yet: {why}. A deploy says so.* Instead: {instead}."


def _pending(name: str) -> str:
    value = getattr(homeport, name)
    return source.summary(value) if inspect.isclass(value) else "A decorator of the original."


def _is_pending(value: Any) -> bool:
    if inspect.isclass(value):
        return issubclass(value, Pending)
    return getattr(value, "__module__", "") == "homeport.sdk.pending"
