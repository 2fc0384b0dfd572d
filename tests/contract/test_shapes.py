"""What another version of homeport reads has the fields that it had, with the defaults that it had.

A database, the records of containers and a client on a laptop are often older or newer than the server. `shapes.txt` has
each object that they share. If a change is right, `python -m tests.contract.test_shapes` writes the file again; read the
difference. A new field needs a default. A field that is removed or renamed, or whose default changes, makes what was
stored mean something else: write a migration.
"""

import dataclasses
import enum
import inspect
import pkgutil
import typing
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import UnionType
from typing import Any

from homeport.contract import api
from homeport.contract.captured import Captured
from homeport.contract.container import Container, Event, Launch, LogLine
from homeport.contract.image import Image
from homeport.contract.listing import Change, Listing
from homeport.contract.manifest import Manifest

GOLDEN = Path(__file__).parent / "shapes.txt"
#: In the database and in files of a home, or between a server and the agent of another machine.
KEPT = (Manifest, Captured, Container, Event, Launch, LogLine, Image, Change, Listing)


def shapes() -> set[type]:
    """Return the dataclasses and enums that cross versions."""
    reached = set(KEPT)
    for module in pkgutil.iter_modules(api.__path__, f"{api.__name__}."):
        reached |= {
            thing
            for _, thing in inspect.getmembers(import_module(module.name), inspect.isclass)
            if thing.__module__ == module.name
        }
    waiting = [*reached]
    while waiting:
        for inner in within(waiting.pop()):
            if inner not in reached:
                reached.add(inner)
                waiting.append(inner)
    return {shape for shape in reached if not issubclass(shape, typing.Protocol)}


def within(shape: type) -> Iterator[type]:
    """Yield the dataclasses and enums in the fields of a dataclass."""
    waiting = [*typing.get_type_hints(shape).values()] if dataclasses.is_dataclass(shape) else []
    while waiting:
        hint = waiting.pop()
        waiting += typing.get_args(hint)
        if inspect.isclass(hint) and (
            dataclasses.is_dataclass(hint) or issubclass(hint, enum.Enum)
        ):
            yield hint


def described(shape: type) -> Iterator[str]:
    """Yield the lines about one dataclass or enum."""
    yield f"{shape.__module__}.{shape.__qualname__}"
    if issubclass(shape, enum.Enum):
        yield from (f"    {member.name} = {member.value!r}" for member in shape)
    elif dataclasses.is_dataclass(shape):
        hints = typing.get_type_hints(shape)
        for field in dataclasses.fields(shape):
            secret = "" if field.repr else "  # not shown"
            yield f"    {field.name}: {named(hints[field.name])}{default(field)}{secret}"


def default(field: "dataclasses.Field[Any]") -> str:
    if field.default_factory is not dataclasses.MISSING:
        return f" = {field.default_factory()!r}"
    return "" if field.default is dataclasses.MISSING else f" = {field.default!r}"


def named(hint: Any) -> str:
    """Return a type as text, the same with each version of Python."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, UnionType):
        return " | ".join(map(named, args))
    if origin is typing.Literal:
        return f"Literal{[*args]}"
    if origin is not None:
        return f"{named(origin)}[{', '.join(map(named, args))}]"
    return {type(None): "None", Ellipsis: "..."}.get(hint) or getattr(hint, "__name__", str(hint))


def text() -> str:
    by_name = sorted(shapes(), key=lambda shape: f"{shape.__module__}.{shape.__qualname__}")
    return "\n".join(line for shape in by_name for line in (*described(shape), ""))


def test_objects_that_cross_versions_keep_their_fields_and_defaults():
    assert GOLDEN.read_text().splitlines() == text().splitlines()


if __name__ == "__main__":
    GOLDEN.write_text(text())
