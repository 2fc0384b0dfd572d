"""Distinguishes the user's own modules from Python's and from those of packages."""

import os
import sys
import sysconfig

_PACKAGES = ("/site-packages/", "/dist-packages/")
_PLACES = ("stdlib", "platstdlib", "purelib", "platlib")


def is_users(path: str, source: str) -> bool:
    """Return whether a module's file is the user's own: in the directory of the script, or below it.

    In a container that directory is /root, and Python or its packages may be below it too: in
    `/root/.local/share/uv/python`, say. These are not the user's own.
    """
    directory = f"{source.rstrip('/')}/"
    if not source or not path.startswith(directory):
        return False
    if any(packages in path[len(directory) - 1 :] for packages in _PACKAGES):
        return False
    return not any(
        place.startswith(directory) and path.startswith(f"{place}/") for place in _python()
    )


def _python() -> "set[str]":
    """Return the directories of this interpreter."""
    paths = (sysconfig.get_path(name) for name in _PLACES)
    directories = {sys.prefix, sys.base_prefix, os.path.dirname(os.__file__), *paths}  # noqa: PTH120
    return {place.rstrip("/") for place in directories if place}
