"""`modal.parameter()`: the parameters of a class, which the query string of a URL has, and a call."""

import typing
from typing import Any
from urllib.parse import quote

from homeport.sdk.exception import InvalidError

PARAMETER_TYPES = {str: "str", int: "int", bytes: "bytes", bool: "bool"}
POSITIONAL = (
    "Can't use positional arguments with modal.parameter-based synthetic constructors. "
    "Use (<parameter_name>=value) keyword arguments when constructing classes instead."
)
_MISSING: Any = type("Missing", (), {"__repr__": lambda _self: "<none>"})()


class Parameter:
    """A class parameter, `modal.parameter()`: one value for all requests of a container."""

    def __init__(self, default: Any, init: bool) -> None:
        self.default, self.init = default, init
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        if self.default is not _MISSING:
            return self.default
        raise AttributeError(f"`{self.name}`: field has no default value and no specified value")


def parameter(*, default: Any = _MISSING, init: bool = True) -> Any:
    """Declare a parameter of a class: `size: int = modal.parameter(default=1)`.

    Types: `int`, `str`, `bytes`, `bool`. The query string of a URL has the values, `?size=2`, and each set of
    values has containers of its own.
    """
    return Parameter(default, init)


def spelled(parameters: dict[str, Any]) -> str:
    """Return class parameters as a query string: see contract/parameters.py."""
    return "&".join(
        f"{quote(name, safe='')}={quote(_bytes(value), safe='')}"
        for name, value in sorted(parameters.items())
    )


def _bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    return (str(value).lower() if isinstance(value, bool) else str(value)).encode()


def parameters_of(raw: type) -> dict[str, tuple[type, Parameter]]:
    """Return name -> type and declaration of each class parameter."""
    parameters: dict[str, tuple[type, Parameter]] = {}
    for owner in reversed(raw.__mro__):
        fields = {k: v for k, v in vars(owner).items() if isinstance(v, Parameter)}
        if not fields:
            continue
        hints = _hints(owner)
        for name, field in fields.items():
            if not field.init:
                continue
            if name not in hints:
                raise InvalidError("All modal.parameter() specifications need to be type-annotated")
            if hints[name] not in PARAMETER_TYPES:
                kind = getattr(hints[name], "__name__", str(hints[name]))
                raise InvalidError(
                    f"Class parameter '{name}': {kind} is not a supported modal.parameter() type. "
                    "Use one of: int, str, bytes, bool"
                )
            parameters[name] = (hints[name], field)
    return parameters


def _hints(owner: type) -> dict[str, Any]:
    try:
        return typing.get_type_hints(owner)
    except NameError:  # another annotation of the class cannot be resolved here
        plain = {t.__name__: t for t in PARAMETER_TYPES}
        return {k: plain.get(v, v) for k, v in getattr(owner, "__annotations__", {}).items()}


def has_default(field: Parameter) -> bool:
    """Return whether the parameter may be left out."""
    return field.default is not _MISSING
