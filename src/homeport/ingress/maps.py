"""HAProxy's maps: on disk, so that a new process begins with them, and in the running one.

What is in a map came from a manifest, a visitor or a token, and it goes into files and into commands
of the Runtime API. So every key and value has an alphabet of its own here, and a text that a visitor
may choose, the class parameters in a query string, is in it as a hash alone.
"""

import contextlib
import hashlib
import re
from pathlib import Path

from homeport.ingress.config import MAPS

_ID = r"[a-z0-9-]{1,63}"
_HOST = r"(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*"
_WORD = r"[A-Za-z0-9._~%-]+"  # as `urllib.parse.quote(text, safe="")` writes it
_POOL = rf"{_WORD}/{_WORD}/{_WORD}(?:\?[0-9a-f]{{64}})?"
# Map -> what its keys and values are made of.
_SHAPES = {
    "hosts": (_HOST, _ID),
    "ports": (r"[1-9][0-9]{0,4}", _ID),
    "pools": (_ID, _POOL),
    "methods": (_ID, _WORD),
    "protected": (_ID, "1"),
    "parameters": (_ID, rf"{_WORD}(?:,{_WORD})*"),
    "backends": (_POOL, r"[a-z][0-9]+"),
    "tokens": (r"[A-Za-z0-9_-]{1,128}", r"[0-9a-f]{64}"),
}
_SHAPE = {name: tuple(re.compile(part) for part in _SHAPES[name]) for name in MAPS}


def pool_text(key: str) -> str:
    """A pool's key in the map `backends`: `app/function/revision`, or that and `?<hash>`.

    The hash is the SHA-256, in hex, of the class parameters. park.lua computes the same one.

    >>> pool_text("app/f/rv-1?size=7")[:16]
    'app/f/rv-1?4f6e0'
    """
    pool, chosen, parameters = key.partition("?")
    return f"{pool}?{hashlib.sha256(parameters.encode()).hexdigest()}" if chosen else pool


class Maps:
    """Key -> value, by map; `take` has the Runtime API's commands that are due."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._maps: dict[str, dict[str, str]] = {name: {} for name in MAPS}
        self._commands: list[tuple[str, ...]] = []
        self._dirty: set[str] = set(MAPS)

    def load(self) -> None:
        """Begin with what an earlier server wrote; lines that this one would not write are dropped."""
        for name, known in self._maps.items():
            with contextlib.suppress(OSError):
                text = (self._directory / f"{name}.map").read_text("utf-8", "replace")
                for line in text.splitlines():
                    key, _, value = line.partition(" ")
                    if _fits(name, key, value):
                        known[key] = value

    def get(self, name: str, key: str) -> str | None:
        """The value of a key."""
        return self._maps[name].get(key)

    def items(self, name: str) -> list[tuple[str, str]]:
        """Everything in a map."""
        return list(self._maps[name].items())

    def put(self, name: str, key: str, value: str | None) -> None:
        """Set a key, or remove it with None.

        Raises `ValueError` for a key or a value that this map cannot hold: a bug of ours, for what
        comes from outside is checked before it gets here.
        """
        known = self._maps[name]
        before = known.get(key)
        if before == value:
            return
        if value is not None and not _fits(name, key, value):
            raise ValueError(f"not for the map `{name}`: {key!r} {value!r}")
        file = f"{name}.map"
        if value is None:
            del known[key]
            self._commands.append(("del", "map", file, key))
        else:
            known[key] = value
            verb = "add" if before is None else "set"
            self._commands.append((verb, "map", file, key, value))
        self._dirty.add(name)

    def take(self) -> list[tuple[str, ...]]:
        """Write what has changed to disk; the commands that tell running processes."""
        for name in self._dirty:
            path = self._directory / f"{name}.map"
            text = "".join(f"{key} {value}\n" for key, value in self._maps[name].items())
            fresh = path.with_suffix(".new")
            fresh.write_text(text)
            fresh.replace(path)
        self._dirty.clear()
        commands, self._commands = self._commands, []
        return commands


def _fits(name: str, key: str, value: str) -> bool:
    keys, values = _SHAPE[name]
    return bool(keys.fullmatch(key) and values.fullmatch(value))
