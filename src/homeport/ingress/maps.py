"""HAProxy's maps, on disk for the next process and in the memory of the running one.

The contents come from manifests, visitors and tokens, and are written to files and to commands of the
Runtime API. So each map allows only certain characters in its keys and values, and class parameters, which
a visitor chooses by the query string, are stored as a hash.
"""

import contextlib
import hashlib
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from homeport.ingress.config import MAPS
from homeport.ingress.runtime import Command

_ID = r"[a-z0-9-]{1,63}"
_HOST = r"(?:\*\.)?[a-z0-9_-]+(?:\.[a-z0-9_-]+)*"
_WORD = r"[A-Za-z0-9._~%-]+"  # as `urllib.parse.quote(text, safe="")` writes it
_POOL = rf"{_WORD}/{_WORD}/{_WORD}(?:\?[0-9a-f]{{64}})?"
_REALM = r"(?:1|[0-9a-f]{20})"
_RATE = r"(?:0:-:0|[1-9][0-9]{0,6}:[sm]:[1-9][0-9]{0,4})"
_KEY = r"(?:-|[0-9a-f]{20})"
# Map -> the patterns of its keys and of its values.
_SHAPES = {
    "hosts": (_HOST, _ID),
    "ports": (r"[1-9][0-9]{0,4}", _ID),
    "pools": (_ID, _POOL),
    "methods": (_ID, _WORD),
    "guards": (
        _ID,
        rf"(?:0|{_REALM}(?:\.{_REALM}){{0,2}}):{_RATE}:{_KEY}(?::[1-9][0-9]{{0,2}}:{_ID})?",
    ),
    "timeouts": (_ID, r"[1-9][0-9]{0,9}"),  # milliseconds
    "parameters": (_ID, rf"{_WORD}(?:,{_WORD})*"),
    "retries": (r"call-[0-9a-f]{32}", r"[0-9]{1,9}(?:\.[0-9]{1,9}){3}"),
    "backends": (_POOL, r"[a-z][0-9]+"),
    "quiet": (r"[a-z][0-9]+", "1"),
    "tokens": (
        r"[A-Za-z0-9_-]{1,128}",
        rf"[0-9a-f]{{64}}:[0-9]{{1,10}}:(?:-|[0-9a-f]{{64}}):[0-9]{{1,10}}:{_RATE}",
    ),
    "covered": (_HOST, r"[A-Za-z0-9._-]{1,128}"),  # a host -> its certificate
    "containers": (r"[a-z0-9-]{1,63}", r"c[0-9]+"),  # of a joined machine: a label -> its backend
    "members": (r"[0-9a-f]{32}", r"[a-z0-9-]{1,40}"),  # the id of another machine -> its name
    "challenges": (r"[A-Za-z0-9_-]{1,128}", r"[A-Za-z0-9._-]{1,256}"),  # RFC 8555, 8.3
}
_SHAPE = {name: tuple(map(re.compile, parts)) for name, parts in _SHAPES.items()}


def pool_text(key: str) -> str:
    """Return a pool's key in the map `backends`: `app/function/revision`, or that and `?<hash>`.

    The hash is the SHA-256, in hex, of the class parameters. park.lua computes the same hash.

    >>> pool_text("app/f/rv-1?size=7")[:16]
    'app/f/rv-1?13437'
    """
    pool, chosen, parameters = key.partition("?")
    return f"{pool}?{hashlib.sha256(parameters.encode()).hexdigest()}" if chosen else pool


LARGE = 5000  # entries of all maps that have changed: about 5 ms


class Maps:
    """Each map's keys and values, and the changes since the last `commit`."""

    def __init__(self, directory: Path, names: Collection[str] = MAPS) -> None:
        self._directory = directory
        self._maps: dict[str, dict[str, str]] = {name: {} for name in names}
        self._before: dict[tuple[str, str], str | None] = {}  # (map, key) -> its committed value
        self._told: dict[
            tuple[str, str], str | None
        ] = {}  # (map, key) -> as `commands` last had it
        self._unsaved: set[str] = set(names)

    def load(self) -> None:
        """Read the files of an earlier server; drop lines that do not fit the map's patterns."""
        for name, entries in self._maps.items():
            with contextlib.suppress(OSError):
                text = (self._directory / f"{name}.map").read_text("utf-8", "replace")
                for line in text.splitlines():
                    key, _, value = line.partition(" ")
                    if _fits(name, key, value):
                        entries[key] = value

    def get(self, name: str, key: str) -> str | None:
        """The value of a key."""
        return self._maps[name].get(key)

    def items(self, name: str) -> list[tuple[str, str]]:
        """Return all entries of a map."""
        return list(self._maps[name].items())

    def put(self, name: str, key: str, value: str | None) -> None:
        """Set a key, or remove it with None.

        Raises `ValueError` for a key or a value that this map cannot hold. That is a bug of ours:
        everything from outside is checked earlier.
        """
        before = self._maps[name].get(key)
        if before == value:
            return
        if value is not None and not _fits(name, key, value):
            raise ValueError(f"not for the map `{name}`: {key!r} {value!r}")
        self._before.setdefault((name, key), before)
        self._set(name, key, value)

    def replace(self, name: str, entries: Mapping[str, str]) -> None:
        """Let a map have exactly these entries; raises as `put` does."""
        for key, _ in self.items(name):
            if key not in entries:
                self.put(name, key, None)
        for key, entry in entries.items():
            self.put(name, key, entry)

    def commands(self) -> list[Command]:
        """Return the commands that make the changes in a running process, in order; each once.

        A process refuses to delete what it has deleted.
        """
        commands: list[Command] = []
        for (name, key), committed in self._before.items():
            before = self._told.get((name, key), committed)
            value, file = self._maps[name].get(key), f"{name}.map"
            if value == before:
                continue
            self._told[name, key] = value
            if value is None:
                commands.append(("del", "map", file, key))
            else:
                verb = "add" if before is None else "set"
                commands.append((verb, "map", file, key, value))
        return commands

    def commit(self) -> None:
        """Mark the changes as published."""
        self._before.clear()
        self._told.clear()

    def revert(self) -> None:
        """Undo the changes since the last `commit`."""
        for (name, key), value in self._before.items():
            self._set(name, key, value)
        self._before.clear()
        self._told.clear()

    @property
    def is_large(self) -> bool:
        """Whether it takes long to write the changed maps."""
        return sum(len(self._maps[name]) for name in self._unsaved) > LARGE

    def save(self) -> None:
        """Write the changed maps to disk. Raises `OSError`; the next call writes them again."""
        for name in sorted(self._unsaved):
            self._write(name, self._directory)
            self._unsaved.discard(name)

    def write(self, directory: Path) -> None:
        """Write every map into another directory."""
        for name in self._maps:
            self._write(name, directory)

    def _set(self, name: str, key: str, value: str | None) -> None:
        if value is None:
            self._maps[name].pop(key, None)
        else:
            self._maps[name][key] = value
        self._unsaved.add(name)

    def _write(self, name: str, directory: Path) -> None:
        text = "".join(f"{key} {value}\n" for key, value in self._maps[name].items())
        fresh = directory / f"{name}.new"
        try:
            fresh.write_text(text)
            fresh.replace(directory / f"{name}.map")
        except OSError:
            fresh.unlink(missing_ok=True)
            raise


def _fits(name: str, key: str, value: str) -> bool:
    keys, values = _SHAPE[name]
    return bool(keys.fullmatch(key) and values.fullmatch(value))
