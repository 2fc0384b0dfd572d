"""Imports the user's own files by their content, so that no save is missed.

Python's usual bytecode file names its source by its time in whole seconds and its length: of two saves in one second,
with the same length, it loads the first. Here a bytecode file names its source by a hash of the content (PEP 552,
"checked hash-based pycs"), which Python's own import reads too.

Only `declare` needs it: a container's files are written once, into a directory of their own.
"""

import importlib.machinery
import importlib.util
import marshal
import os
import sys
from importlib.machinery import FileFinder, SourceFileLoader
from types import CodeType
from typing import TYPE_CHECKING

from homeport.sdk.tracebacks import is_users

if TYPE_CHECKING:
    from importlib.abc import PathEntryFinder

CHECKED_HASH = (3).to_bytes(
    4, "little"
)  # the flags: named by a hash, which is compared at each import
LIBRARIES = ("site-packages", "dist-packages")


class SourceLoader(SourceFileLoader):
    """Loads a file; its bytecode is used only if it was made of exactly this content."""

    def get_code(self, fullname: str) -> CodeType:
        """Return the code of the file as it is now."""
        path = self.get_filename(fullname)
        source, cache_path = self.get_data(path), ""
        head = importlib.util.MAGIC_NUMBER + CHECKED_HASH + importlib.util.source_hash(source)
        try:
            cache_path = importlib.util.cache_from_source(path)
            data = self.get_data(cache_path)
        except (OSError, NotImplementedError):  # there is none, or this Python has no place for one
            data = b""
        if data.startswith(head):
            try:
                code = marshal.loads(memoryview(data)[len(head) :])  # noqa: S302 - as import does
            except (EOFError, ValueError, TypeError):
                code = None
            if isinstance(code, CodeType):
                return code
        try:
            code_of_source: CodeType = self.source_to_code(source, path)
        except SyntaxError as error:
            if not error.filename:  # Python names no place if the file has a null byte
                error.filename, error.lineno = path, 1 + source.partition(b"\0")[0].count(b"\n")
            raise
        if not sys.dont_write_bytecode and cache_path:
            mode = os.stat(path).st_mode & 0o666 | 0o200  # noqa: PTH116 - not more readable than the source
            self.set_data(cache_path, head + marshal.dumps(code_of_source), _mode=mode)
        return code_of_source


def install() -> None:
    """Make this process import the user's modules in this way; installed packages are imported as usual."""
    if _find not in sys.path_hooks:
        sys.path_hooks.insert(0, _find)
        for entry in [entry for entry in sys.path_importer_cache if _is_users(entry)]:
            del sys.path_importer_cache[entry]


def _is_users(directory: str) -> bool:
    return is_users(f"{directory}/") and not any(name in directory for name in LIBRARIES)


def _find(directory: str) -> "PathEntryFinder":
    """A path hook: return the finder for a directory of the user's; `ImportError` for all others."""
    if not _is_users(directory):
        raise ImportError(directory)
    return _finder(directory)


_finder = FileFinder.path_hook(
    (importlib.machinery.ExtensionFileLoader, importlib.machinery.EXTENSION_SUFFIXES),
    (SourceLoader, importlib.machinery.SOURCE_SUFFIXES),
    (importlib.machinery.SourcelessFileLoader, importlib.machinery.BYTECODE_SUFFIXES),
)
