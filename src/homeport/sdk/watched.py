"""What was looked at on the user's machine while the script was loaded: `serve` watches it."""

import os

_states: dict[str, list[int]] = {}


def add(path: "str | os.PathLike[str]") -> None:
    """A file or a directory that is about to be read, whether it is there or not."""
    absolute = os.path.abspath(path)  # noqa: PTH100 - of very many
    if absolute not in _states:
        _states[absolute] = state(absolute)


def states() -> dict[str, list[int]]:
    """path -> its state when it was read, of everything so far."""
    return dict(_states)


def state(path: str) -> list[int]:
    """Another one once it has changed: date and size; a directory's tells of its entries."""
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return [0, 0]
    return [status.st_mtime_ns, status.st_size]
