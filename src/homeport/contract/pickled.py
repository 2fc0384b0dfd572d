"""Shows the values in a pickle, without running any code that is in it.

A pickle may call any function while it is loaded, and containers write the pickles that commands and the dashboard
show. So only plain values are loaded; of everything else the type's name is shown. A few bytes can also describe a
value that fills the memory or takes years to write, so such a pickle is not loaded, or its value is not written.
"""

import collections
import io
import pickle
import pickletools
from typing import Any

#: Without `range` and `Fraction`: `set(range(10**12))` and `Fraction("1e999999999")` would fill the memory.
SAFE = {
    "builtins": {"set", "frozenset", "complex"},
    "collections": {"OrderedDict", "deque"},
    "datetime": {"date", "datetime", "time", "timedelta", "timezone"},
    "decimal": {"Decimal"},
    "uuid": {"UUID"},
}
MOST_OPERATIONS = 200_000  # of one pickle: to count them takes 0.4 s
MOST_TEXT = 16 * 1024 * 1024  # characters of one value, about
EACH = 16  # characters that each object in a value counts, whatever it is


class _Plain(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name in SAFE.get(module, ()):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name}")


def shown(data: bytes) -> str:
    """Return the value in a pickle as Python writes it; if it is not plain, its type and the number of bytes.

    >>> shown(pickle.dumps({"a": [1, None]}))
    "{'a': [1, None]}"
    """
    try:
        if _can_be_loaded(data):
            value = _Plain(io.BytesIO(data)).load()
            if _can_be_written(value):
                return repr(value)  # fails for a number of many digits, and for a very deep list
    except Exception:  # noqa: S110 - the pickle may hold anything
        pass
    return f"<{_type(data)}, {len(data)} bytes>"


def _can_be_loaded(data: bytes) -> bool:
    """Return whether a pickle has few operations, and numbers the objects that it uses again one after the other.

    Python reserves memory up to the highest of these numbers, which may be any.
    """
    for count, (opcode, number, _) in enumerate(pickletools.genops(data)):
        if count >= MOST_OPERATIONS:
            return False
        if opcode.name in ("PUT", "LONG_BINPUT") and int(number or 0) > count:
            return False
    return True


def _can_be_written(value: Any) -> bool:
    """Return whether a value's text is short: a list may have another list ten times, and that one a third one."""
    waiting, length = [value], 0
    while waiting and length <= MOST_TEXT:
        item = waiting.pop()
        length += EACH + (len(item) if isinstance(item, (str, bytes)) else 0)
        if isinstance(item, dict):
            waiting += [*item.keys(), *item.values()]
        elif isinstance(item, (list, tuple, set, frozenset, collections.deque)):
            waiting += item
    return length <= MOST_TEXT


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
