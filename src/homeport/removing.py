"""Deletes a directory that others have filled, such as a volume, or the files that a container has written.

Directories in it may be nested deeper than Python recurses and than a path may be long (PATH_MAX), and may have
lost their owner's rights. So the work goes by descriptors and nothing recurses: what is inside a directory moves
up, until everything lies flat. Links are not followed.

`remove` is for files that may still be written to. `discard` is for files that are no longer needed nor written to.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator

TRIES = 100  # for a directory into which a process still writes
#: Errors that show that a process still writes: a new file, or a file or a link in place of a directory.
_WRITTEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.ELOOP)

Failed = Callable[[OSError], None]


def remove(name: str, parent: int | None = None) -> None:
    """Delete a directory, by its path or by its name in an open directory.

    Raises `OSError` if something cannot be deleted, or if new files appear again and again.
    """
    tries = 0

    def failed(error: OSError) -> None:
        nonlocal tries
        if error.errno == errno.ENOENT:  # another process has deleted it
            return
        tries += 1
        if error.errno not in _WRITTEN or tries > TRIES:
            raise error

    while True:
        with _opened(name, parent) as top:
            while _flattened(top, failed):
                pass
        try:
            os.rmdir(name, dir_fd=parent)
        except FileNotFoundError:
            return
        except OSError as error:
            failed(error)
        else:
            return


def discard(path: str) -> None:
    """Delete a directory, if it exists. What cannot be deleted stays, and the log says so."""
    first: OSError | None = None

    def failed(error: OSError) -> None:
        nonlocal first
        first = first or error

    try:
        with _opened(path, None) as top:
            while _flattened(top, failed):
                pass
        os.rmdir(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        import logging  # not earlier: it would cost each cell's start some milliseconds

        log = logging.getLogger(__name__)
        log.warning("`%s` cannot be deleted, and stays: %s", path, first or error)


def _flattened(top: int, failed: Failed) -> bool:
    """Delete a directory's files and directories; what is in these moves up first. Return whether that did anything."""
    done = False
    with os.scandir(top) as entries:
        for entry in entries:
            try:
                done = _gone(entry.name, top, failed) or done
            except OSError as error:
                failed(error)
    return done


def _gone(name: str, top: int, failed: Failed) -> bool:
    if _unlinked(name, top):
        return True
    done = False
    with _opened(name, top) as folder, os.scandir(folder) as entries:
        for entry in entries:
            try:
                if not _unlinked(entry.name, folder):
                    _moved(entry.name, folder, top)
                done = True
            except OSError as error:
                failed(error)
    try:
        os.rmdir(name, dir_fd=top)
    except OSError as error:
        failed(error)
        return done
    return True


def _moved(name: str, folder: int, top: int) -> None:
    new = os.urandom(8).hex()  # `secrets` imports much, and each container imports this module
    try:
        os.rename(name, new, src_dir_fd=folder, dst_dir_fd=top)
    except PermissionError:  # its `..` changes, so one must be allowed to write in it
        _permit(name, folder)
        os.rename(name, new, src_dir_fd=folder, dst_dir_fd=top)


def _unlinked(name: str, folder: int) -> bool:
    """Delete a file; return False if it is a directory."""
    try:
        os.unlink(name, dir_fd=folder)
    except IsADirectoryError:
        return False
    return True


@contextlib.contextmanager
def _opened(name: str, parent: int | None) -> Iterator[int]:
    """Open a directory that is to be deleted, after its owner got all rights in it."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        folder = os.open(name, flags, dir_fd=parent)
    except PermissionError:
        _permit(name, parent)
        folder = os.open(name, flags, dir_fd=parent)
    try:
        if not os.fstat(folder).st_mode & stat.S_IWUSR:
            os.fchmod(folder, 0o700)
        yield folder
    finally:
        os.close(folder)


def _permit(name: str, parent: int | None) -> None:
    """Let the owner of a directory do everything in it; never that of a link that is there by now."""
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(name, flags, dir_fd=parent)
    try:
        os.chmod(f"/proc/self/fd/{handle}", 0o700)
    finally:
        os.close(handle)
