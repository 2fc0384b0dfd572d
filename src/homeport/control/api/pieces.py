"""Writes a value of the contract as JSON in pieces, each of which takes less than a millisecond.

A status may have 100,000 containers: in one piece it would hold the event loop for seconds.
"""

import dataclasses
import functools
import json
import typing
from collections.abc import Iterator
from typing import Any

from homeport.contract import codec

AT_ONCE = 50  # parts that have no lists themselves
#: Made once: `json.dumps` makes one each time if it is given options.
JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def of(value: Any) -> Iterator[str]:
    """Yield the pieces of `JSON.encode(codec.encode(value))`.

    >>> "".join(of((1, 2))), [*of(True)]
    ('[1,2]', ['true'])
    """
    if type(value) in (tuple, list):
        yield from _of_list(value)
    elif _has_lists(value):
        separator = "{"
        for field in dataclasses.fields(value):
            yield f'{separator}"{field.name}":'
            yield from of(getattr(value, field.name))
            separator = ","
        yield "}"
    else:
        yield JSON.encode(codec.encode(value))


def _of_list(parts: "tuple[Any, ...] | list[Any]") -> Iterator[str]:
    if not parts:
        yield "[]"
    elif _has_lists(parts[0]):
        for number, part in enumerate(parts):
            yield "," if number else "["
            yield from of(part)
        yield "]"
    else:
        for at in range(0, len(parts), AT_ONCE):
            yield ("," if at else "[") + JSON.encode(codec.encode(parts[at : at + AT_ONCE]))[1:-1]
        yield "]"


def _has_lists(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and _declares_lists(type(value))  # type: ignore[arg-type] # a class has a hash


@functools.cache
def _declares_lists(kind: type) -> bool:
    """Return whether values of a dataclass may have many parts."""
    return any(
        typing.get_origin(hint) in (tuple, list) for hint in typing.get_type_hints(kind).values()
    )
