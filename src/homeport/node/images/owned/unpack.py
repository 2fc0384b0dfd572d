"""Unpacks a layer's archive into a directory. The archive may be hostile; it can write nothing outside the directory.

A layer is a tar file with two special names (OCI image spec, layer.md): `.wh.name` hides `name` of the layers
below, and `.wh..wh..opq` hides all files that they have in its directory. Overlayfs uses a character device
0:0 for the first and an extended attribute for the second.

Each name is opened by openat2 as if the directory were `/`, so that neither `..` nor a symbolic link can name a path
outside. This runs as root of a user namespace (`within.py`), where no device can be made and no file can get
an owner of the host.
"""

import errno
import gzip
import lzma
import os
import stat
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

from homeport import removing
from homeport.cell import kernel
from homeport.contract.dataclass import dataclass
from homeport.node.images.owned import archives
from homeport.node.images.owned.archives import UnfitError

HIDDEN, OPAQUE, OF_AUFS = ".wh.", ".wh..wh..opq", ".wh..wh."
OPAQUE_MARK = "user.overlay.opaque"  # as with the mount option `userxattr`
MAX_BYTES = 64 * 1024**3  # of all files of one layer
MAX_ENTRIES = 2_000_000
MAX_DEPTH = 256  # directories, one in the other
LEFT_FREE_BYTES = 256 * 1024**2
LOOK_EVERY_BYTES = 64 * 1024**2  # checks of the free space
IDS = 65536
NOBODY = 65534


@dataclass(slots=True)
class Counted:
    """Counts of an unpacked layer."""

    entries: int = 0
    bytes: int = 0
    devices: int = 0  # left out: a container has its own


def unpack(
    archive: IO[bytes],
    root: int,
    *,
    ids: int = IDS,
    max_bytes: int = MAX_BYTES,
    lays: bool = False,
    owner: tuple[int, int] | None = None,
) -> Counted:
    """Put the archive's files into the directory `root`, a descriptor.

    With `ids` 1, all files belong to the only user; otherwise to `owner`, if it is given. If it `lays`, the
    archive is not a layer: `.wh.` is an ordinary name, and a link to a directory stays a link. Raises `UnfitError`,
    or `OSError` (a full disk).
    """
    unpacking = _Unpacking(root, ids, lays, owner)
    try:
        with archives.plain(archive) as plain:
            source: Any = archives.Forward(plain, max_bytes)
            with tarfile.TarFile(fileobj=source, mode="r", errorlevel=2) as tar:
                reader: Any = tar
                while (member := tar.next()) is not None:
                    reader.members = []  # it would remember each of them
                    unpacking.take(tar, member)
            unpacking.finish()
    except (tarfile.TarError, zlib.error, gzip.BadGzipFile, lzma.LZMAError, EOFError) as error:
        raise UnfitError(f"the archive is damaged: {error}") from None
    except (ValueError, OverflowError) as error:  # a name with a zero byte, an invalid date
        raise UnfitError(f"the archive is not well formed: {error}") from None
    finally:
        unpacking.close()
    return unpacking.counted


class _Unpacking:
    """One layer, entry by entry."""

    def __init__(self, root: int, ids: int, lays: bool, owner: tuple[int, int] | None) -> None:
        self.counted = Counted()
        self._lays, self._owner = lays, owner
        self._root = root
        self._ids = ids
        self._parent: tuple[tuple[str, ...], int] | None = None  # the last one, kept open
        self._dates: list[tuple[str, float]] = []  # of directories
        self._looked_at = 0

    def take(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        self.counted.entries += 1
        if self.counted.entries > MAX_ENTRIES:
            raise UnfitError(f"it has more than {MAX_ENTRIES} entries")
        parts = _parts(member.name)
        if not parts:
            if member.isdir() and not self._lays:
                os.fchmod(self._root, member.mode & 0o7777 | 0o700)
            return
        above, name = tuple(parts[:-1]), parts[-1]
        parent = self._opened(above)
        if self._lays:
            self._put(tar, member, parent, name)
        elif name == OPAQUE:
            os.setxattr(parent, OPAQUE_MARK, b"y")
        elif name.startswith(OF_AUFS):
            pass  # an attribute of an older kind of storage; no program reads it
        elif name.startswith(HIDDEN):
            self._hide(parent, name[len(HIDDEN) :])
        else:
            self._put(tar, member, parent, name)

    def finish(self) -> None:
        """Set the dates of directories at the end, because each entry in a directory changes its date."""
        for path, date in reversed(self._dates):
            with suppress(OSError), self._open(path) as directory:
                os.utime(directory, (date, date))

    def close(self) -> None:
        if self._parent is not None:
            os.close(self._parent[1])
            self._parent = None

    def _put(self, tar: tarfile.TarFile, member: tarfile.TarInfo, parent: int, name: str) -> None:
        if member.ischr() or member.isblk():
            self.counted.devices += 1
            return
        if member.isdir():
            if self._lays and _is_link(parent, name):
                return
            self._directory(parent, name)
            self._dates.append((member.name, member.mtime))
        else:
            self._remove(parent, name)
            if member.issym():
                os.symlink(member.linkname, name, dir_fd=parent)
            elif member.islnk():
                self._link(member, parent, name)
                return  # its owner and mode are its target's
            elif member.isfifo():
                os.mkfifo(name, dir_fd=parent)
            elif member.isfile():
                self._file(tar, member, parent, name)
            else:
                raise UnfitError(f"`{member.name}` is of a kind that no layer has")
        self._dress(member, parent, name)

    def _dress(self, member: tarfile.TarInfo, parent: int, name: str) -> None:
        """Set owner, mode, attributes and date; in this order, because a change of the owner removes setuid from the mode."""
        if self._ids > 1:
            ids = self._owner or (member.uid, member.gid)
            user, group = (i if 0 <= i < self._ids else NOBODY for i in ids)
            os.chown(name, user, group, dir_fd=parent, follow_symlinks=False)
        if member.issym():
            os.utime(name, (member.mtime, member.mtime), dir_fd=parent, follow_symlinks=False)
            return
        # Nothing below exchanges `name` for a link meanwhile: only this process writes here.
        os.chmod(name, member.mode & 0o7777, dir_fd=parent)
        if member.isfile() or member.isdir():
            with self._open(name, parent, os.O_RDONLY | os.O_NOFOLLOW) as file:
                for key, value in member.pax_headers.items():
                    attribute = key.removeprefix("SCHILY.xattr.")
                    if (
                        attribute != key
                        and attribute.startswith("user.")
                        and not attribute.startswith("user.overlay.")
                    ):
                        with suppress(OSError):
                            os.setxattr(file, attribute, value.encode(errors="surrogateescape"))
        if not member.isdir():
            os.utime(name, (member.mtime, member.mtime), dir_fd=parent, follow_symlinks=False)

    def _file(self, tar: tarfile.TarFile, member: tarfile.TarInfo, parent: int, name: str) -> None:
        if self.counted.bytes + member.size > MAX_BYTES:  # a sparse file costs the archive nothing
            raise UnfitError(f"it is larger than {MAX_BYTES // 1024**2} MiB unpacked")
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o600, dir_fd=parent)
        content = tar.extractfile(member)
        assert content is not None
        with os.fdopen(descriptor, "wb") as file, content:
            while chunk := content.read(archives.CHUNK_BYTES):
                file.write(chunk)
                self._wrote(len(chunk))

    def _wrote(self, count: int) -> None:
        self.counted.bytes += count
        if self.counted.bytes - self._looked_at >= LOOK_EVERY_BYTES:
            self._looked_at = self.counted.bytes
            room = os.statvfs(self._root)
            if room.f_bavail * room.f_frsize < LEFT_FREE_BYTES:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _link(self, member: tarfile.TarInfo, parent: int, name: str) -> None:
        *above, target = _parts(member.linkname) or [""]
        try:
            with self._open("/".join(above)) as directory:
                kind = os.stat(target, dir_fd=directory, follow_symlinks=False).st_mode
                if not (stat.S_ISREG(kind) or stat.S_ISLNK(kind)):
                    raise UnfitError(
                        f"`{member.name}` is a hard link to something that is not a file"
                    )
                os.link(
                    target, name, src_dir_fd=directory, dst_dir_fd=parent, follow_symlinks=False
                )
        except (FileNotFoundError, NotADirectoryError):
            raise UnfitError(
                f"`{member.name}` is a hard link to `{member.linkname}`, which the layer does not have"
            ) from None

    def _directory(self, parent: int, name: str) -> None:
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
        except FileExistsError:
            kind = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if stat.S_ISDIR(kind.st_mode):
                return
            hidden = _is_hidden(kind)
            self._remove(parent, name)
            os.mkdir(name, 0o755, dir_fd=parent)
            if hidden:  # by an entry before this one: nothing of the layers below shows through
                with self._open(name, parent) as directory:
                    os.setxattr(directory, OPAQUE_MARK, b"y")

    def _hide(self, parent: int, name: str) -> None:
        if name in ("", ".", ".."):
            raise UnfitError(f"`{HIDDEN}{name}` hides nothing")
        try:
            kind = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            os.mknod(name, stat.S_IFCHR, 0, dir_fd=parent)
            return
        if stat.S_ISDIR(kind.st_mode):  # of this layer, which stays; what is below goes
            with self._open(name, parent) as directory:
                os.setxattr(directory, OPAQUE_MARK, b"y")

    def _remove(self, parent: int, name: str) -> None:
        """Remove the file that an earlier entry of the archive put there, because the last entry counts."""
        with suppress(FileNotFoundError):
            try:
                os.unlink(name, dir_fd=parent)
            except (IsADirectoryError, PermissionError):
                removing.remove(name, parent)

    def _opened(self, above: tuple[str, ...]) -> int:
        """Open the directory of an entry; make it if no entry has made it."""
        if self._parent is not None and self._parent[0] == above:
            return self._parent[1]
        self.close()
        path = ""
        descriptor = os.dup(self._root)
        for part in above:
            before, path = path, f"{path}/{part}"
            try:
                following = kernel.open_in_root(self._root, path, os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError:
                self._make(descriptor, part, path)
                following = kernel.open_in_root(self._root, path, os.O_RDONLY | os.O_DIRECTORY)
            except NotADirectoryError:
                with self._open(before) as directory:
                    self._directory(directory, part)
                following = kernel.open_in_root(self._root, path, os.O_RDONLY | os.O_DIRECTORY)
            finally:
                os.close(descriptor)
            descriptor = following
        self._parent = above, descriptor
        return descriptor

    def _make(self, parent: int, name: str, path: str) -> None:
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
        except FileExistsError:
            raise UnfitError(
                f"`{path}` is a link that leads nowhere, and files lie below it"
            ) from None

    @contextmanager
    def _open(self, path: str, below: int | None = None, flags: int = os.O_RDONLY) -> Iterator[int]:
        root = self._root if below is None else below
        descriptor = kernel.open_in_root(root, path, flags | os.O_NONBLOCK)
        try:
            yield descriptor
        finally:
            os.close(descriptor)


def _parts(path: str) -> list[str]:
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise UnfitError(f"`{path}` leads out of the layer")
    if len(parts) > MAX_DEPTH:
        raise UnfitError(f"directories lie more than {MAX_DEPTH} deep")
    return parts


def _is_link(parent: int, name: str) -> bool:
    """Return whether it is a link, which a directory of the archive does not replace."""
    try:
        return stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _is_hidden(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
