"""Whether a value is what JSON and the contract's annotations allow; the rules are in `validate.py`."""

import dataclasses
import enum
import functools
import math
import types
import typing
from typing import Any

from homeport.contract.errors import BadRequest

MAX_DEPTH = 32
MAX_TEXT = 4 * 1024**2  # characters of one string: a lock file is one


def plain(data: object, depth: int = 0) -> None:
    """Refuse what no part of homeport can do anything with, anywhere in a JSON value."""
    if depth > MAX_DEPTH:
        raise BadRequest("a JSON value is nested too deeply")
    if isinstance(data, str):
        if len(data) > MAX_TEXT:
            raise BadRequest(f"a text has more than {MAX_TEXT} characters")
        if not is_text(data):
            raise BadRequest(f"{data[:40]!a} is no text: it holds a NUL or half a character")
    elif isinstance(data, dict):
        for key, value in data.items():
            plain(key, depth + 1)
            plain(value, depth + 1)
    elif isinstance(data, list):
        for value in data:
            plain(value, depth + 1)
    elif isinstance(data, float) and not math.isfinite(data):
        raise BadRequest(f"{data} is no number")
    elif isinstance(data, int) and not -(2**63) <= data < 2**63:
        raise BadRequest("a number has more than 64 bits")


def is_text(text: str) -> bool:
    """Whether it can be written as UTF-8, and has no NUL."""
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON may hold
        return False
    return "\0" not in text


def typed(annotation: Any, value: Any, path: str) -> None:
    """Refuse a decoded value that is not what its annotation says: JSON may hold anything."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any:
        return
    if origin in (typing.Union, types.UnionType):
        if not any(_fits(arg, value) for arg in args):
            raise BadRequest(f"`{path}` cannot be {str(value)[:80]!r}")
        for arg in args:
            if _fits(arg, value):
                typed(arg, value, path)
                return
    if not _fits(annotation, value):
        wanted = getattr(annotation, "__name__", str(annotation))
        raise BadRequest(f"`{path}` must be {wanted}, not {str(value)[:80]!r}")
    if origin is tuple:
        several = len(args) == 2 and args[1] is Ellipsis
        if not several and len(value) != len(args):
            raise BadRequest(f"`{path}` must have {len(args)} parts")
        for number, item in enumerate(value):
            typed(args[0] if several else args[number], item, f"{path}[{number}]")
    elif origin is dict:
        for key, item in value.items():
            typed(args[1], item, f"{path}.{str(key)[:40]}")
    elif dataclasses.is_dataclass(annotation):
        hints = _hints(typing.cast(Any, annotation))
        for field in dataclasses.fields(annotation):
            typed(hints[field.name], getattr(value, field.name), f"{path}.{field.name}")


def _fits(annotation: Any, value: Any) -> bool:
    origin = typing.get_origin(annotation)
    if annotation is Any:
        return True
    if origin is not None:
        return isinstance(value, origin)
    if annotation in (str, int, float, bool, bytes):
        return type(value) is annotation
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return isinstance(value, annotation)
    return isinstance(value, annotation)


@functools.cache
def _hints(shape: Any) -> dict[str, Any]:
    return typing.get_type_hints(shape)
