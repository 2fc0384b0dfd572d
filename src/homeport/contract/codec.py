"""Dataclasses to JSON and back, by their annotations.

Supports only the types that the contract uses: dataclasses, enums, tuples, dicts with `str` keys, optional
and plain values, and `bytes` (as base64). An unknown key is ignored, so that text of a newer version can be
read; a missing key becomes the field's default.
"""

import base64
import dataclasses
import enum
import functools
import json
import types
import typing
from typing import Any, TypeVar

T = TypeVar("T")

PLAIN = frozenset({str, int, float, bool, type(None)})
#: Annotations of which `decode` returns what it gets.
_SAME = (str, int, bool, int | None, str | None)


def dumps(value: Any) -> str:
    """Return the value as one line of JSON."""
    return json.dumps(encode(value), separators=(",", ":"), ensure_ascii=False)


def line(value: Any) -> bytes:
    """Return the value as a line of ASCII, so that names of files that are not text survive too."""
    return json.dumps(encode(value), separators=(",", ":")).encode() + b"\n"


def loads(cls: type[T], text: str | bytes) -> T:
    """Return the `cls` that `dumps` wrote; `ValueError` or `TypeError` if the text does not fit it."""
    return typing.cast(T, decode(cls, json.loads(text)))


def encode(value: Any, *, brief: bool = False) -> Any:
    """Return values that `json.dumps` takes; `brief` leaves out the fields that equal their defaults.

    Use `brief` only if the same version of homeport reads it: another version may have other defaults.
    """
    kind = type(value)
    if kind in PLAIN:
        return value
    if kind in (tuple, list):
        return [
            item if type(item) in PLAIN else encode(item, brief=brief)  # a long list of numbers
            for item in value
        ]
    if kind is dict:
        return {str(key): encode(item, brief=brief) for key, item in value.items()}
    if dataclasses.is_dataclass(kind):
        fields = {}
        for name, default in _fields(kind):
            item = getattr(value, name)
            if not brief or item != default:
                fields[name] = encode(item, brief=brief)
        return fields
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode("ascii")}
    return value


def decode(annotation: Any, data: Any) -> Any:
    """Return the value of the annotated type that `encode` made `data` from."""
    if annotation is Any:
        return _bytes_or_same(data)
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return _decode_union(args, data)
    if origin is tuple:
        if not isinstance(data, (list, tuple)):
            raise TypeError(f"a list is needed, not {type(data).__name__}")
        if args[-1] is Ellipsis:
            if args[0] in _SAME:
                return tuple(data)
            return tuple(decode(args[0], item) for item in data)
        return tuple(decode(arg, item) for arg, item in zip(args, data, strict=True))
    if origin is dict:
        if not isinstance(data, dict):
            raise TypeError(f"an object is needed, not {type(data).__name__}")
        return {key: decode(args[1], item) for key, item in data.items()}
    if dataclasses.is_dataclass(annotation):
        if not isinstance(data, dict):
            raise TypeError(f"{annotation} from {type(data).__name__}")
        hints = _hints(typing.cast(Any, annotation))
        fields = {key: decode(hints[key], item) for key, item in data.items() if key in hints}
        return typing.cast(Any, annotation)(**fields)
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return annotation(data)
    if annotation is bytes:
        return _bytes_or_same(data)
    if annotation is float and type(data) is int:
        return float(data)
    return data


def _decode_union(args: tuple[Any, ...], data: Any) -> Any:
    if data is None:
        return None
    kinds = [arg for arg in args if arg is not type(None)]
    if len(kinds) == 1:
        return decode(kinds[0], data)
    return _bytes_or_same(data)  # a union of plain values, such as a class parameter's


def _bytes_or_same(data: Any) -> Any:
    if isinstance(data, dict) and set(data) == {"base64"}:
        return base64.b64decode(data["base64"])
    return data


def prepare(annotation: Any) -> None:
    """Compute a dataclass's fields ahead of time, which saves `decode` 0.2 ms for a `Launch`.

    A zygote calls it once, for all containers that it forks.
    """
    if dataclasses.is_dataclass(annotation):
        for hint in _hints(typing.cast(Any, annotation)).values():
            prepare(hint)
    for inner in typing.get_args(annotation):
        prepare(inner)


@functools.cache
def _fields(cls: Any) -> tuple[tuple[str, Any], ...]:
    """Return each field's name and default; a field without a default gets an object that equals nothing."""
    return tuple((f.name, _default(f)) for f in dataclasses.fields(cls))


def _default(field: "dataclasses.Field[Any]") -> Any:
    factory = field.default_factory
    return field.default if factory is dataclasses.MISSING else factory()


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)
