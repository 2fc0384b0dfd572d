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
    summary = traceback.TracebackException.from_exception(error)
    _trim(summary, set(), libraries=libraries)
    return "".join(summary.format()).rstrip()


def _trim(summary: traceback.TracebackException, seen: set[int], *, libraries: bool) -> None:
    if id(summary) in seen:
        return
    seen.add(id(summary))
    frames = [f for f in summary.stack if not is_ours(f.filename)]
    users = [f for f in frames if not f.filename.startswith(_LIBRARIES)]
    summary.stack = traceback.StackSummary.from_list(frames if libraries or not users else users)
    linked = [summary.__cause__, summary.__context__, *(getattr(summary, "exceptions", None) or ())]
    for link in linked:
        if link is not None:
            _trim(link, seen, libraries=libraries)
