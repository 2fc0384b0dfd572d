"""Dataclasses to a URL's query and back: `LogQuery(tail=5)` is `?tail=5`.

Supports the types of fields that the API's queries have: text, a number of at least 1, a time in seconds
since the epoch, and a flag, which is `1`.
"""

import dataclasses
import functools
import math
import typing
import urllib.parse
from collections.abc import Mapping
from typing import Any, TypeVar

from homeport.contract.errors import BadRequest

T = TypeVar("T")
MAX_DIGITS = 9


def encode(value: Any) -> str:
    """Return the query of all fields that differ from their defaults.

    >>> @dataclasses.dataclass
    ... class Page:
    ...     tail: int = 10
    ...     of: str = ""
    >>> encode(Page(of="a&b"))
    'of=a%26b'
    """
    values = {}
    for field in dataclasses.fields(value):
        item = getattr(value, field.name)
        if item != field.default:
            values[field.name] = "1" if item is True else str(item)
    return urllib.parse.urlencode(values)


def decode(cls: type[T], query: Mapping[str, str]) -> T:
    """Return the `cls` of a query; unknown names are ignored, and an empty value is the default."""
    values = {
        name: _read(name, kind, query[name])
        for name, kind in _fields(typing.cast(Any, cls))
        if query.get(name)
    }
    return cls(**values)


def parsed(cls: type[T], text: bytes) -> T:
    """Return the `cls` of a query that is not parsed yet."""
    pairs = urllib.parse.parse_qsl(text.decode("latin-1"), keep_blank_values=True)
    return decode(cls, dict(pairs))


@functools.cache
def _fields(cls: Any) -> tuple[tuple[str, Any], ...]:
    hints = typing.get_type_hints(cls)
    return tuple((field.name, hints[field.name]) for field in dataclasses.fields(cls))


def _read(name: str, kind: Any, text: str) -> Any:
    if kind is bool:
        return text == "1"
    if kind is int:
        if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS and int(text)):
            raise BadRequest(f"`{name}` must be a number of at least 1")
        return int(text)
    if kind is float:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise BadRequest(f"`{name}` must be a number of seconds since the epoch")
        return number
    return text
