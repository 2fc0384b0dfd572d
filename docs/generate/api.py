"""docs/reference/api.md, from the handlers' signatures and docstrings, and the types that they name."""

import dataclasses
import enum
import functools
import importlib
import inspect
import pkgutil
import re
import types
import typing
from collections.abc import AsyncIterator, Iterator
from typing import Any

from docs.generate import source
from docs.generate.markdown import page as markdown
from docs.generate.markdown import sentence, table

from homeport.contract import api
from homeport.contract.api.answers import Refusal
from homeport.contract.api.coldstarts import ColdStart
from homeport.control.api import routes, routing
from homeport.control.api.routing import Described

_LINK = re.compile(r"\[`(\w+)`\]\(#")
INTRO = """What the command line speaks with the server. It may change with each version of homeport: programs do better
with `homeport … --json`."""
OBJECTS = """## Objects

A field with a default may be missing, in a body that you send and in an answer of an older server."""
PARTS = """`total_ms` is the sum of the parts in `timings_ms`. The parts follow one another:

parked
: from the first visitor who waits until the start is decided; 0 without a visitor

scheduled
: until its turn has come

forked
: until its process exists

imported
: the interpreter, the script and what it imports

entered
: the enter hooks; those before a snapshot too, if it was made for this start

listening
: building the apps, their lifespan, the socket

attached
: until the ingress knows the container

first_byte
: from its first request until the first byte of the answer; known when that request has ended"""


PLAIN = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    bytes: '`{"base64": text}`',
    type(None): "null",
    Any: "any JSON",
}


def page() -> str:
    """The page."""
    rules = inspect.cleandoc(routes.__doc__ or "").partition("The rules:\n\n")[2]
    every = [each for noun in routes.NOUNS for each in routing.described(noun)]
    return markdown(
        "The control plane's API",
        INTRO,
        rules,
        *map(_route, every),
        OBJECTS,
        *map(_object, objects(every)),
    )


def objects(every: list[Described]) -> list[Any]:
    """Return the dataclasses that routes take and answer, each before those that it is made of."""
    found: dict[Any, None] = {}
    for each in every:
        for annotation in (each.body, each.query, each.answer, *each.lines):
            found |= dict.fromkeys(_within(annotation))
        for name in _LINK.findall(each.text):  # a part of a body that is bytes
            found |= dict.fromkeys(_within(_contract()[name]))
    return list(found | dict.fromkeys(_within(Refusal)))


@functools.cache
def _contract() -> dict[str, Any]:
    """Return the dataclasses of the API's contract, by name."""
    names = [found.name for found in pkgutil.iter_modules(api.__path__, f"{api.__name__}.")]
    members = (vars(importlib.import_module(name)) for name in names)
    return {k: v for each in members for k, v in each.items() if dataclasses.is_dataclass(v)}


def _route(each: Described) -> str:
    parts = [f"## `{each.method} {each.path}`", each.text, f"- **Needs:** `{each.needs.value}`"]
    if typing.get_origin(each.body) is AsyncIterator:
        parts.append("- **Body:** the bytes")
    elif each.body is not None:
        parts.append(f"- **Body:** {_kind(each.body)}")
    if each.query is not None:
        parts.append(f"- **Query:** {_kind(each.query)}")
    parts.append(f"- **Answer:** {_answer(each)}")
    return "\n\n".join(parts)


def _answer(each: Described) -> str:
    if each.lines:
        return f"a stream of {_either(each.lines)}"
    if each.answer is None:
        return "none, status 204"
    return _kind(each.answer) if dataclasses.is_dataclass(each.answer) else "text"


def _object(cls: Any) -> str:
    hints = typing.get_type_hints(cls)
    rows = [
        (f"`{field.name}`", _kind(hints[field.name]), _default(field), sentence(field.comment))
        for field in source.fields(cls)
    ]
    about = source.summary(cls)
    fields = table(("field", "type", "default", "meaning"), rows)
    parts = PARTS if cls is ColdStart else ""
    return "\n\n".join(part for part in (f"### `{cls.__name__}`", about, fields, parts) if part)


def _default(field: source.Named) -> str:
    if field.default is None:
        return ""
    if field.default.startswith("field("):
        if "default=None" in field.default:
            return "null"
        return "empty" if "default" in field.default else ""
    return {'""': "empty", "''": "empty", "()": "empty", "None": "null"}.get(
        field.default, f"`{field.default}`"
    )


def _kind(annotation: Any) -> str:
    """Return a type in words, with a link to each object."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in PLAIN:
        return PLAIN[annotation]
    if origin in (typing.Union, types.UnionType):
        return _either(args)
    if origin is typing.Literal:
        return " or ".join(f'`"{value}"`' for value in args)
    if origin is tuple and args[-1] is Ellipsis:
        return f"array of {_kind(args[0])}"
    if origin is tuple:
        return f"array: {', '.join(map(_kind, args))}"
    if origin is dict:
        return f"object: text → {_kind(args[1])}"
    if issubclass(annotation, enum.Enum):
        return ", ".join(f"`{member.value}`" for member in annotation)
    return f"[`{annotation.__name__}`](#{annotation.__name__.lower()})"


def _either(annotations: tuple[Any, ...]) -> str:
    return " or ".join(_kind(each) for each in annotations if each is not bytes)


def _within(annotation: Any) -> Iterator[Any]:
    """Yield the dataclasses that a type is made of."""
    for inner in typing.get_args(annotation):
        yield from _within(inner)
    if inspect.isclass(annotation) and dataclasses.is_dataclass(annotation):
        yield annotation
        for inner in typing.get_type_hints(annotation).values():
            yield from _within(inner)
