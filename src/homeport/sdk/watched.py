"""Collects the files that were read while the script was loaded; `serve` reloads if one changes."""

import os

_states: dict[str, tuple[int, ...]] = {}


def add(path: "str | os.PathLike[str]") -> None:
    """Add a file or a directory before it is read, also if it does not exist."""
    absolute = os.path.abspath(path)  # noqa: PTH100 - of very many
    if absolute not in _states:
        _states[absolute] = state(absolute)


def states() -> dict[str, tuple[int, ...]]:
    """Return path -> its state when it was read, for all paths so far."""
    return dict(_states)


def state(path: str) -> tuple[int, ...]:
    """Return a path's date and size, which differ if it changes; a directory's date changes with its entries."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return (0, 0)
    return (status.st_mtime_ns, status.st_size)
