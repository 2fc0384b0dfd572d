"""Tracebacks as users want them: their own frames, and not ours."""

import os
import sysconfig
import traceback
from pathlib import Path

OURS = str(Path(__file__).resolve().parents[1])
# A container has its own link to this package.
_OURS = (OURS + os.sep, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep)  # noqa: PTH100, PTH120 - `resolve` would follow the link
_LIBRARIES = tuple(
    path + os.sep
    for name in ("stdlib", "platstdlib", "purelib", "platlib")
    if (path := sysconfig.get_path(name))
)


def is_ours(path: str) -> bool:
    """Whether a file is homeport's or the import system's."""
    return path.startswith((*_OURS, "<frozen"))


def is_users(path: str) -> bool:
    """Whether a file is neither homeport's nor a library's."""
    return not is_ours(path) and not path.startswith(_LIBRARIES)


def users_traceback(error: BaseException, *, libraries: bool = True) -> str:
    """The traceback without frames of ours and of the import system.

    Without `libraries`, frames of installed packages are left out too, unless there are no others.
    """
    told = traceback.TracebackException.from_exception(error)
    _trim(told, set(), libraries=libraries)
    return "".join(told.format()).rstrip()


def _trim(told: traceback.TracebackException, seen: set[int], *, libraries: bool) -> None:
    if id(told) in seen:
        return
    seen.add(id(told))
    frames = [f for f in told.stack if not is_ours(f.filename)]
    users = [f for f in frames if not f.filename.startswith(_LIBRARIES)]
    told.stack = traceback.StackSummary.from_list(frames if libraries or not users else users)
    linked = [told.__cause__, told.__context__, *(getattr(told, "exceptions", None) or ())]
    for other in linked:
        if other is not None:
            _trim(other, seen, libraries=libraries)
