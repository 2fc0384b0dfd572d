"""HAProxy's maps: on disk, so that a new process begins with them, and in the running ones."""

import contextlib
from pathlib import Path

from homeport.ingress.config import MAPS


class Maps:
    """Key -> value, by map; `changed` holds the Runtime API's commands that are due."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._maps: dict[str, dict[str, str]] = {name: {} for name in MAPS}
        self._commands: list[str] = []
        self._dirty: set[str] = set(MAPS)

    def load(self) -> None:
        """Begin with what an earlier server wrote."""
        for name, known in self._maps.items():
            with contextlib.suppress(OSError):
                for line in (self._directory / f"{name}.map").read_text().splitlines():
                    key, _, value = line.partition(" ")
                    known[key] = value

    def get(self, name: str, key: str) -> str | None:
        """The value of a key."""
        return self._maps[name].get(key)

    def items(self, name: str) -> list[tuple[str, str]]:
        """Everything in a map."""
        return list(self._maps[name].items())

    def put(self, name: str, key: str, value: str | None) -> None:
        """Set a key, or remove it with None."""
        known = self._maps[name]
        before = known.get(key)
        if before == value:
            return
        path = self._directory / f"{name}.map"
        if value is None:
            del known[key]
            self._commands.append(f"del map {path} {key}")
        else:
            known[key] = value
            verb = "add" if before is None else "set"
            self._commands.append(f"{verb} map {path} {key} {value}")
        self._dirty.add(name)

    def take(self) -> list[str]:
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
