"""Removes homeport's frames from tracebacks, so that users see their own."""

import os
import sysconfig
import traceback
from pathlib import Path

OURS = str(Path(__file__).resolve().parents[1])
# In a container the package is imported through a link, so both paths count.
_OURS = (OURS + os.sep, os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep)  # noqa: PTH100, PTH120 - `resolve` would follow the link
_LIBRARIES = tuple(
    path + os.sep
    for name in ("stdlib", "platstdlib", "purelib", "platlib")
    if (path := sysconfig.get_path(name))
)


def is_ours(path: str) -> bool:
    """Return whether a file belongs to homeport or to the import system."""
    return path.startswith((*_OURS, "<frozen"))


def is_users(path: str) -> bool:
    """Return whether a file belongs neither to homeport nor to a library."""
    return not is_ours(path) and not path.startswith(_LIBRARIES)


def users_traceback(error: BaseException, *, libraries: bool = True) -> str:
    """Return the traceback as text, without frames of homeport and of the import system.

    With `libraries=False`, frames of installed packages are removed too, unless all frames are of packages.
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
