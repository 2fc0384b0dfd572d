"""Shows the values in a pickle, without running any code that is in it.

A pickle may call any function while it is loaded, and containers write the pickles that commands and the dashboard
show. So only plain values are loaded; of everything else the type's name is shown.
"""

import io
import pickle
import pickletools
from typing import Any

SAFE = {
    "builtins": {"set", "frozenset", "complex", "range"},
    "collections": {"OrderedDict", "deque"},
    "datetime": {"date", "datetime", "time", "timedelta", "timezone"},
    "decimal": {"Decimal"},
    "fractions": {"Fraction"},
    "uuid": {"UUID"},
}


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name in SAFE.get(module, ()):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name}")


def value(data: bytes) -> Any:
    """Return the value; a `Shown` if it is not plain."""
    try:
        return _Plain(io.BytesIO(data)).load()
    except Exception:
        return Shown(f"<{_type(data)}, {len(data)} bytes>")


class Shown:
    """A value that is shown by a description only."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _type(data: bytes) -> str:
    """Return the name of the first class in a pickle."""
    words: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == "GLOBAL":
                return str(argument).replace(" ", ".")
            if opcode.name == "STACK_GLOBAL" and len(words) > 1:
                return ".".join(words[-2:])
            if isinstance(argument, str):
                words.append(argument)
    except Exception:
        return "not a pickle"
    return "an object"
