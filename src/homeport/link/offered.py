"""The source trees that one node may read: those of orders that it was given, and no other file.

A node asks for the list of a tree's files, and then for the content of those that it lacks, piece by piece. It checks
each file's hash. Besides a tree `rv-1` there may be `rv-1.outside` and, during a build, `rv-1.build`.
"""

import hashlib
import os
import stat
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

from homeport import beneath
from homeport.contract.errors import NotFound, StorageError
from homeport.contract.image import OUTSIDE
from homeport.link import trust
from homeport.link.calls import Entry, Piece

BUILD = ".build"
PIECE_BYTES = 128 * 2**10
MOST_TREES = 500
MOST_FILES = 50_000  # of a tree
_SKIPPED = "__pycache__"  # each node compiles for itself


class Offered:
    """The trees that were named to one node. All methods block, but for `offer`."""

    def __init__(self, sources: Path) -> None:
        self._sources = sources
        self._files: OrderedDict[str, dict[str, str]] = OrderedDict()  # tree -> hash -> path

    def offer(self, tree: str) -> None:
        """Let the node read a tree from now on."""
        for name in (tree, f"{tree}{OUTSIDE}", f"{tree}{BUILD}"):
            self._files.setdefault(name, {})
            self._files.move_to_end(name)
        while len(self._files) > 3 * MOST_TREES:
            self._files.popitem(last=False)

    def entries(self, tree: str) -> tuple[Entry, ...]:
        """List a tree's files; none if it is one that need not exist. `NotFound` if it was not offered."""
        files = self._of(tree)
        entries: list[Entry] = []
        try:
            root = os.open(self._sources / tree, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except FileNotFoundError:
            if not tree.endswith((OUTSIDE, BUILD)):
                raise NotFound(f"`{tree}` is not there any more") from None
            return ()
        try:
            for path in _paths(root, ""):
                entries.append(_entry(root, path))
                files[entries[-1].sha256] = path
                if len(entries) > MOST_FILES:
                    raise StorageError(f"`{tree}` has more than {MOST_FILES} files")
        except OSError as error:
            raise StorageError(f"`{tree}` cannot be read: {error.strerror}") from None
        finally:
            os.close(root)
        return tuple(entries)

    def piece(self, tree: str, sha256: str, offset: int) -> Piece:
        """Return a piece of a file that `entries` has listed; no bytes after its end."""
        path = self._of(tree).get(sha256)
        if path is None or offset < 0:
            raise NotFound(f"`{tree}` has no such file")
        try:
            root = os.open(self._sources / tree, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                file = _opened(root, path)
            finally:
                os.close(root)
            try:
                return Piece(data=os.pread(file, PIECE_BYTES, offset))
            finally:
                os.close(file)
        except (OSError, OverflowError):
            raise NotFound(f"`{tree}` has no such file any more") from None

    def _of(self, tree: str) -> dict[str, str]:
        if not trust.is_tree(tree) or tree not in self._files:
            raise NotFound("the node was given no order with this tree")
        return self._files[tree]


def _paths(root: int, directory: str) -> Iterator[str]:
    """Yield the path of each file below a directory; links and other things that are not files are left out."""
    here = beneath.opened(root, directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        with os.scandir(here) as entries:
            names = sorted(
                (e.name, e.is_dir(follow_symlinks=False)) for e in entries if not e.is_symlink()
            )
    finally:
        os.close(here)
    for name, is_directory in names:
        path = f"{directory}/{name}" if directory else name
        if is_directory and name != _SKIPPED:
            yield from _paths(root, path)
        elif not is_directory:
            yield path


def _opened(root: int, path: str) -> int:
    file = beneath.opened(root, path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise FileNotFoundError(path)
    return file


def _entry(root: int, path: str) -> Entry:
    with open(_opened(root, path), "rb") as file:
        status = os.fstat(file.fileno())
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    mode = stat.S_IMODE(status.st_mode) & 0o755
    return Entry(path=path, sha256=digest, size_bytes=status.st_size, mode=mode)
