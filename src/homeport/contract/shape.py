"""Checks that a value has the types of the contract's annotations; `validate.py` has the other rules."""

import dataclasses
import enum
import functools
import math
import types
import typing
from typing import Any, TypeVar

from homeport.contract import codec
from homeport.contract.errors import BadRequest
from homeport.contract.sizes import MIB

T = TypeVar("T")

MAX_DEPTH = 32
MAX_TEXT = 4 * MIB  # characters of one string: a lock file is one


def read(cls: type[T], data: object, name: str) -> T:
    """Return the `cls` that a JSON value of unknown origin holds; errors call the value `name`."""
    plain(data)
    if isinstance(data, dict):
        for field in dataclasses.fields(typing.cast(Any, cls)):
            needed = (field.default, field.default_factory) == (dataclasses.MISSING,) * 2
            if needed and field.name not in data:
                raise BadRequest(f"`{name}.{field.name}` is missing")
    try:
        value: T = codec.decode(cls, data)
    except (TypeError, ValueError, KeyError, AttributeError, RecursionError) as error:
        raise BadRequest(f"`{name}` cannot be read: {str(error)[:200]}") from None
    typed(cls, value, name)
    return value


def plain(data: object, depth: int = 0, name: str = "a text") -> None:
    """Refuse text and numbers that no part of homeport can use, anywhere in a JSON value.

    The error names the key and never quotes the value, which may be a secret.
    """
    if depth > MAX_DEPTH:
        raise BadRequest("a JSON value is nested too deeply")
    if isinstance(data, str):
        if len(data) > MAX_TEXT:
            raise BadRequest(f"{name} has more than {MAX_TEXT} characters")
        if not is_text(data):
            raise BadRequest(f"{name} holds a NUL or half a character, which is not text")
    elif isinstance(data, dict):
        for key, value in data.items():
            plain(key, depth + 1, "a key")
            plain(value, depth + 1, f"`{key[:40]}`")
    elif isinstance(data, list):
        for value in data:
            plain(value, depth + 1, name)
    elif isinstance(data, float) and not math.isfinite(data):
        raise BadRequest(f"{data} is not a number")
    elif isinstance(data, int) and not -(2**63) <= data < 2**63:
        raise BadRequest("a number has more than 64 bits")


def is_text(text: str) -> bool:
    """Return whether the text can be written as UTF-8, and has no NUL."""
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON may hold
        return False
    return "\0" not in text


def typed(annotation: Any, value: Any, path: str, *, quoted: bool = True) -> None:
    """Refuse a decoded value whose type is not that of its annotation: JSON may hold anything.

    The error quotes the value, but for a field with `repr=False`, which is a secret.
    """
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any:
        return
    shown = f", not {str(value)[:80]!r}" if quoted else ""
    if origin in (typing.Union, types.UnionType):
        for arg in args:
            if _fits(arg, value):
                typed(arg, value, path, quoted=quoted)
                return
        raise BadRequest(f"`{path}` must be {' or '.join(map(_name, args))}{shown}")
    if not _fits(annotation, value):
        raise BadRequest(f"`{path}` must be {_name(annotation)}{shown}")
    if origin is tuple:
        several = len(args) == 2 and args[1] is Ellipsis
        if not several and len(value) != len(args):
            raise BadRequest(f"`{path}` must have {len(args)} parts")
        for number, item in enumerate(value):
            typed(args[0] if several else args[number], item, f"{path}[{number}]", quoted=quoted)
    elif origin is dict:
        for key, item in value.items():
            typed(args[1], item, f"{path}.{str(key)[:40]}", quoted=quoted)
    elif dataclasses.is_dataclass(annotation):
        hints = _hints(typing.cast(Any, annotation))
        for field in dataclasses.fields(annotation):
            item, inner = getattr(value, field.name), f"{path}.{field.name}"
            typed(hints[field.name], item, inner, quoted=quoted and field.repr)


def _name(annotation: Any) -> str:
    if annotation is type(None):
        return "null"
    return getattr(annotation, "__name__", str(annotation))


def _fits(annotation: Any, value: Any) -> bool:
    origin = typing.get_origin(annotation)
    if annotation is Any:
        return True
    if origin is typing.Literal:
        return value in typing.get_args(annotation)
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
