"""Opens a path below a directory, and nothing outside of it, whatever links a container has put there.

The kernel resolves the path and refuses each path that leads out of the directory (man 2 openat2, RESOLVE_BENEATH).
"""

import contextlib
import errno
import os
from collections.abc import Iterator

MAX_PATH = 4096  # characters
TRIES = 100  # for a path of which a part is renamed while the kernel resolves it

RESOLVE_NO_MAGICLINKS, RESOLVE_BENEATH = 0x02, 0x08
OPENAT2 = 437  # the same number on every machine


def parts(path: str) -> list[str]:
    """Return the names that a path consists of; `/` and the empty path are the root.

    >>> parts("/a//b/./c/"), parts("/")
    (['a', 'b', 'c'], [])
    """
    if "\0" in path or len(path) > MAX_PATH:
        raise ValueError(f"{path[:80]!r} cannot be a path")
    names = [name for name in path.split("/") if name not in ("", ".")]
    if ".." in names:
        raise ValueError(f"`{path[:200]}`: a path in a volume cannot have `..`")
    return names


def opened(root: int, path: str, flags: int) -> int:
    """Open a path below a directory; `PermissionError` if it, or a link on its way, leads out."""
    import ctypes
    import struct

    how = struct.pack("QQQ", flags | os.O_CLOEXEC, 0, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    for _ in range(TRIES):
        opened: int = libc.syscall(
            ctypes.c_long(OPENAT2),
            ctypes.c_int(root),
            ctypes.c_char_p(os.fsencode(path or ".")),
            ctypes.c_char_p(how),
            ctypes.c_size_t(len(how)),
        )
        if opened >= 0:
            return opened
        number = ctypes.get_errno()
        if number in (errno.ENOSYS, errno.EPERM):  # Linux before 5.6, or a filter of calls
            return _step_by_step(root, path, flags)
        if number == errno.EXDEV:
            raise PermissionError(errno.EPERM, "it leads out of the volume", path)
        if number not in (errno.EAGAIN, errno.EINTR):  # something was renamed meanwhile
            raise OSError(number, os.strerror(number), path)
    raise OSError(errno.EAGAIN, "it changes all the time", path)


def _step_by_step(root: int, path: str, flags: int) -> int:
    """The same without openat2: no link is followed at all."""
    names = parts(path)
    current = os.dup(root)
    for position, name in enumerate(names):
        last = position == len(names) - 1
        open_flags = flags if last else os.O_RDONLY | os.O_DIRECTORY
        try:
            inner = os.open(name, open_flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=current)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise PermissionError(errno.EPERM, "it is a link", path) from None
            raise
        finally:
            os.close(current)
        current = inner
    return current


@contextlib.contextmanager
def closing(descriptor: int) -> Iterator[int]:
    """Close a descriptor at the end of the block."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)
