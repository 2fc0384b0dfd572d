"""Rules for values of any part of a manifest, each as a function that raises; `validate` and `methods` use them."""

import re
from collections.abc import Collection, Iterable

from homeport.contract.errors import BadRequest, ScriptError

MAX_NAME, MAX_WHERE = 128, 2000  # characters
FUNCTION = re.compile(r"[\w.<>* -]{1,128}\Z")


def qualname(name: str, where: str) -> None:
    parts = name.split(".")
    fits = all(part.isidentifier() or part in ("<locals>", "<lambda>") for part in parts)
    if not fits or len(name) > MAX_NAME:
        raise ScriptError(f"{name[:80]!r} is not the name of an object", where=where)


def text(name: str, value: str, most: int) -> None:
    if len(value) > most:
        raise BadRequest(f"`{name}` has more than {most} characters")


def count(values: Collection[object], most: int, what: str) -> None:
    if len(values) > most:
        raise ScriptError(f"there are {len(values)} {what}, and {most} is the most")


def unique(what: str, values: Iterable[str]) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise ScriptError(f"there are two of the {what} `{value[:200]}`")
        seen.add(value)
