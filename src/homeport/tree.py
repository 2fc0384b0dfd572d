"""Reads and changes the files below one directory, by paths that others wrote.

A volume's files: a container may have put anything there, such as a link to /etc/shadow, a FIFO, a name that is not
text, or a link in place of a directory at this very moment. So no path is ever put together and opened:
`beneath` resolves it, and the last part of a path that is written, renamed or removed is never followed.

Used by the server for its API, and inside a container for a volume that is mounted there; there `root` is the mount.
Errors are `OSError` with a text for users, and `ValueError` for a path that cannot be meant.
"""

import contextlib
import errno
import itertools
import os
import stat
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass

from homeport import beneath, durable, removing
from homeport.beneath import closing, parts

MAX_DEPTH = 200  # directories below each other: each is an open descriptor while they are walked
SORTED = 10_000  # entries of a directory; a larger one is listed as it comes, in bounded memory
CHUNK_BYTES = 1024**2

_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a directory."""

    path: str  # from the root, without a `/` at its beginning
    kind: str  # `file`, `directory`, `symlink`, `fifo`, `socket` or `other`
    size: int  # bytes
    modified_at: float  # seconds since the epoch
    mode: int  # its permissions


class Tree:
    """The files below `root`.

    What is written goes first to `staging`, a directory of the same file system (by default the root itself), so
    that a file appears whole or not at all. New files and directories get `owner`, a user and a group, if it is
    given. Every method blocks.
    """

    def __init__(
        self, root: str, *, staging: str | None = None, owner: tuple[int, int] | None = None
    ) -> None:
        self._root, self._staging, self._owner = root, staging or root, owner

    def entries(self, path: str = "", *, recursive: bool = False) -> Generator[Entry, None, None]:
        """Yield the entries of a directory, or the one file with this path; links are not followed."""
        names = parts(path)
        with self._at(names[:-1]) as parent:
            if names:
                status = os.stat(names[-1], dir_fd=parent, follow_symlinks=False)
                if not stat.S_ISDIR(status.st_mode):
                    yield _entry("/".join(names), status)
                    return
        with self._at(names) as folder:
            yield from _walk(folder, "/".join(names), recursive=recursive, depth=len(names))

    def open(self, path: str, *, follows: bool = True) -> int:
        """Return a descriptor to read a regular file; links are followed as long as they stay inside."""
        names = parts(path)
        with self._opened_root() as root:
            flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY  # a FIFO must not be waited for
            flags |= 0 if follows else os.O_NOFOLLOW
            descriptor = beneath.opened(root, "/".join(names), flags)
        kind = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(kind):
            os.close(descriptor)
            if stat.S_ISDIR(kind):
                raise IsADirectoryError(errno.EISDIR, "it is a directory", path)
            raise OSError(errno.EINVAL, "it is not a regular file", path)
        return descriptor

    def status(self, path: str) -> os.stat_result:
        """Return what `lstat` says of a path."""
        names = parts(path)
        with self._at(names[:-1]) as parent:
            return os.stat(names[-1] if names else ".", dir_fd=parent, follow_symlinks=False)

    def link(self, path: str) -> str:
        """Return where a symbolic link leads."""
        names = parts(path)
        with self._at(names[:-1]) as parent:
            return os.readlink(names[-1], dir_fd=parent)

    def symlink(self, path: str, target: str) -> None:
        """Make a symbolic link, which replaces a file of that name; it may lead anywhere, and is not followed."""
        names = parts(path)
        self._make(names[:-1])
        with self._at(names[:-1]) as above, self.opened_staging() as staging:
            part = fresh_name()
            os.symlink(target, part, dir_fd=staging)
            os.rename(part, names[-1], src_dir_fd=staging, dst_dir_fd=above)

    def settle(
        self, path: str, mode: int, owner: tuple[int, int] | None, modified_at: float
    ) -> None:
        """Give a directory its owner, its mode and its time."""
        with self._at(parts(path)) as folder:
            if owner is not None:
                os.fchown(folder, *owner)
            os.fchmod(folder, mode & 0o777)
            os.utime(folder, (modified_at, modified_at))

    def begin(self, path: str, *, mode: int = 0o644, force: bool = False) -> "Writing":
        """Begin to write a file; `FileExistsError` if it exists, without `force`."""
        if not (names := parts(path)):
            raise IsADirectoryError(errno.EISDIR, "it is a directory", path)
        with contextlib.suppress(FileNotFoundError), self._at(names[:-1]) as parent:
            status = os.stat(names[-1], dir_fd=parent, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                raise IsADirectoryError(errno.EISDIR, "it is a directory", path)
            if not force:
                raise FileExistsError(errno.EEXIST, "it exists already", path)
        return Writing(self, names, mode=mode & 0o777, force=force)

    def remove(self, path: str, *, recursive: bool = False) -> None:
        """Remove a file or a link; with `recursive` a directory and all below it."""
        names = parts(path)
        if not names:
            if not recursive:
                raise IsADirectoryError(errno.EISDIR, "it is a directory", path or "/")
            for entry in list(self.entries()):
                self.remove(entry.path, recursive=True)
            return
        with self._at(names[:-1]) as parent, self.opened_staging() as staging:
            name = names[-1]
            if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=parent)
                return
            if not recursive:
                raise IsADirectoryError(errno.EISDIR, "it is a directory", path)
            removed = fresh_name()
            os.rename(name, removed, src_dir_fd=parent, dst_dir_fd=staging)
            removing.remove(removed, staging)

    def copy(self, sources: Sequence[str], target: str, *, recursive: bool = False) -> None:
        """Copy as `cp` does: into `target` if that is a directory, else under that name."""
        into = self._is_directory(target)
        if len(sources) > 1 and not into:
            raise NotADirectoryError(errno.ENOTDIR, "it is not a directory", target)
        for source in sources:
            names = parts(source)
            to = [*parts(target), *names[-1:]] if into else parts(target)
            if to[: len(names)] == names:
                raise ValueError(f"`{source[:200]}` cannot be copied into itself")
            if not self._is_directory(source):
                self._copy(source, "/".join(to))
                continue
            if not recursive:
                raise IsADirectoryError(errno.EISDIR, "it is a directory", source)
            self._make(to)
            for entry in self.entries(source, recursive=True):
                inner = [*to, *parts(entry.path)[len(names) :]]
                if entry.kind == "directory":
                    self._make(inner)
                elif entry.kind in ("file", "symlink"):
                    self._copy(entry.path, "/".join(inner))

    def make(self, path: str) -> None:
        """Make a directory, and those above it; it may be there already."""
        self._make(parts(path))
        with self._at(parts(path)):
            pass

    def measure(self) -> tuple[int, int]:
        """Return how many bytes of the disk it takes, and how many files it has."""
        size = files = 0
        with contextlib.suppress(OSError), self._opened_root() as root:
            for entry in _walk(root, "", recursive=True, strict=False):
                size += entry.blocks
                files += entry.kind != "directory"
        return size, files

    def sync(self) -> None:
        """Write everything through to the disk."""
        with self._opened_root() as root:
            durable.sync_all(root)

    @contextlib.contextmanager
    def opened_staging(self) -> Iterator[int]:
        """The directory for files that are not whole yet."""
        with closing(os.open(self._staging, os.O_RDONLY | os.O_DIRECTORY)) as descriptor:
            yield descriptor

    def own(self, descriptor: int) -> None:
        """Make `owner` the owner of a new file or directory."""
        if self._owner is not None:
            os.fchown(descriptor, *self._owner)

    @contextlib.contextmanager
    def _opened_root(self) -> Iterator[int]:
        with closing(os.open(self._root, os.O_RDONLY | os.O_DIRECTORY)) as descriptor:
            yield descriptor

    @contextlib.contextmanager
    def _at(self, names: Sequence[str]) -> Iterator[int]:
        """A directory below the root."""
        with self._opened_root() as root:
            flags = os.O_RDONLY | os.O_DIRECTORY
            with closing(beneath.opened(root, "/".join(names), flags)) as descriptor:
                yield descriptor

    def _make(self, names: Sequence[str]) -> None:
        """Make a directory, and those above it."""
        for depth in range(1, len(names) + 1):
            with self._at(names[: depth - 1]) as parent:
                try:
                    os.mkdir(names[depth - 1], 0o755, dir_fd=parent)
                except FileExistsError:
                    continue
            with self._at(names[:depth]) as folder:
                self.own(folder)
                os.fchmod(folder, 0o755)  # whatever this process's umask is

    def put(self, staging: int, part: str, names: Sequence[str], *, force: bool) -> None:
        """Move a whole file from the staging directory to its place."""
        self._make(names[:-1])
        with self._at(names[:-1]) as parent:
            if force:
                os.rename(part, names[-1], src_dir_fd=staging, dst_dir_fd=parent)
                return
            os.link(part, names[-1], src_dir_fd=staging, dst_dir_fd=parent, follow_symlinks=False)
            os.unlink(part, dir_fd=staging)

    def _is_directory(self, path: str) -> bool:
        names = parts(path)
        if not names:
            return True
        try:
            with self._at(names[:-1]) as parent:
                status = os.stat(names[-1], dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return stat.S_ISDIR(status.st_mode)

    def _copy(self, source: str, target: str) -> None:
        names = parts(source)
        with self._at(names[:-1]) as parent:
            status = os.stat(names[-1], dir_fd=parent, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                self.symlink(target, os.readlink(names[-1], dir_fd=parent))
                return
        with closing(self.open(source)) as descriptor:
            writing = self.begin(target, mode=stat.S_IMODE(status.st_mode), force=True)
            try:
                while chunk := os.read(descriptor, CHUNK_BYTES):
                    writing.write(chunk)
                writing.finish()
            finally:
                writing.abort()


class Writing:
    """A file that is being written; it appears at its path when it is complete."""

    def __init__(self, tree: Tree, names: Sequence[str], *, mode: int, force: bool) -> None:
        self._tree, self._names, self._force = tree, names, force
        self._part = fresh_name()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with tree.opened_staging() as staging:
            self._descriptor = os.open(self._part, flags, 0o600, dir_fd=staging)
        tree.own(self._descriptor)
        os.fchmod(self._descriptor, mode)

    def write(self, data: bytes) -> None:
        """Append data."""
        remaining = memoryview(data)
        while remaining:
            remaining = remaining[os.write(self._descriptor, remaining) :]

    def settle(self, owner: tuple[int, int] | None, modified_at: float) -> None:
        """Give the file its owner and its time."""
        mode = os.fstat(self._descriptor).st_mode & 0o777
        if owner is not None:
            os.fchown(self._descriptor, *owner)
        os.fchmod(self._descriptor, mode)
        os.utime(self._descriptor, (modified_at, modified_at))

    def finish(self) -> None:
        """Move the complete file to its path."""
        with self._tree.opened_staging() as staging:
            self._tree.put(staging, self._part, self._names, force=self._force)
        self._part = ""

    def abort(self) -> None:
        """Remove an incomplete file; always called at the end, also after `finish`."""
        if self._part:
            with contextlib.suppress(FileNotFoundError), self._tree.opened_staging() as staging:
                os.unlink(self._part, dir_fd=staging)
            self._part = ""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def fresh_name() -> str:
    """Return a new name for a file that is not complete."""
    return f".homeport-{os.urandom(8).hex()}"


@dataclass(frozen=True, slots=True)
class _Walked(Entry):
    blocks: int = 0  # bytes that it takes on the disk


def _walk(
    folder: int, prefix: str, *, recursive: bool, depth: int = 0, strict: bool = True
) -> Iterator[_Walked]:
    """Yield what is below an open directory; each directory before what it has."""
    with os.scandir(folder) as scanned:
        some = list(itertools.islice(scanned, SORTED))
        if len(some) < SORTED:
            some.sort(key=lambda entry: entry.name)
        for scanned_entry in itertools.chain(some, scanned):
            try:
                status = scanned_entry.stat(follow_symlinks=False)
            except FileNotFoundError:  # it has gone meanwhile
                continue
            path = f"{prefix}/{scanned_entry.name}" if prefix else scanned_entry.name
            entry = _entry(path, status)
            yield entry
            if not (recursive and entry.kind == "directory"):
                continue
            if depth >= MAX_DEPTH:
                if strict:
                    text = f"there are more than {MAX_DEPTH} directories below each other"
                    raise OSError(errno.ENAMETOOLONG, text, prefix[:200])
                continue
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                inner = os.open(scanned_entry.name, flags, dir_fd=folder)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                if error.errno == errno.ELOOP or not strict:  # it is a link now
                    continue
                raise
            with closing(inner):
                yield from _walk(inner, path, recursive=True, depth=depth + 1, strict=strict)


def _entry(path: str, status: os.stat_result) -> _Walked:
    return _Walked(
        path=path,
        kind=_KINDS.get(stat.S_IFMT(status.st_mode), "other"),
        size=status.st_size,
        modified_at=status.st_mtime,
        mode=stat.S_IMODE(status.st_mode),
        blocks=status.st_blocks * 512,
    )
