"""The operations on a volume's files, and their implementation for a container that has the volume mounted."""

import contextlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol

from homeport.contract.dataclass import dataclass
from homeport.contract.sizes import MIB
from homeport.sdk.exception import ExistsError, InvalidError, MissingError
from homeport.tree import Entry, Tree

CHUNK_BYTES = MIB

#: Opens a local file to upload it.
Source = Callable[[], "contextlib.AbstractContextManager[BinaryIO]"]


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that is to be written into a volume."""

    source: Source
    path: str  # in the volume
    mode: int


class Files(Protocol):
    """A volume's files, whether this code runs in a container or on the user's machine."""

    def entries(self, path: str, *, recursive: bool) -> Iterator[Entry]: ...
    def read(self, path: str) -> Iterator[bytes]: ...
    def remove(self, path: str, *, recursive: bool) -> None: ...
    def copy(self, sources: Sequence[str], target: str, *, recursive: bool) -> None: ...
    def upload(self, uploads: Sequence[Upload], *, force: bool) -> None: ...


class Mounted:
    """The files of a volume that this container has mounted."""

    def __init__(self, directory: str) -> None:
        self._tree = Tree(directory)

    def entries(self, path: str, *, recursive: bool) -> Iterator[Entry]:
        """Yield the entries of a directory."""
        with _translated(path):
            yield from self._tree.entries(path, recursive=recursive)

    def read(self, path: str) -> Iterator[bytes]:
        """Yield a file in pieces."""
        with _translated(path):
            descriptor = self._tree.open(path)
            try:
                while chunk := os.read(descriptor, CHUNK_BYTES):
                    yield chunk
            finally:
                os.close(descriptor)

    def remove(self, path: str, *, recursive: bool) -> None:
        """Remove a file, or a directory."""
        with _translated(path):
            self._tree.remove(path, recursive=recursive)

    def copy(self, sources: Sequence[str], target: str, *, recursive: bool) -> None:
        """Copy files within the volume."""
        with _translated(", ".join(sources)):
            self._tree.copy(sources, target, recursive=recursive)

    def upload(self, uploads: Sequence[Upload], *, force: bool) -> None:
        """Write files."""
        for upload in uploads:
            with _translated(upload.path), upload.source() as source:
                writing = self._tree.begin(upload.path, mode=upload.mode, force=force)
                try:
                    while chunk := source.read(CHUNK_BYTES):
                        writing.write(chunk)
                    writing.finish()
                finally:
                    writing.abort()

    def commit(self) -> None:
        """Write all data through to the disk."""
        self._tree.sync()


class VolumeUpload:
    """Files of this machine that are about to be written into a volume."""

    def __init__(self) -> None:
        self.uploads: list[Upload] = []

    def put_file(
        self,
        local_file: str | os.PathLike[str] | BinaryIO | io.BytesIO,
        remote_path: str | PurePosixPath,
        mode: int | None = None,
    ) -> None:
        """Add a file, by its path or open for reading."""
        path = str(remote_path)
        if path.endswith("/"):
            raise ValueError(f"remote_path ({path}) must refer to a file - cannot end with /")
        if isinstance(local_file, (str, os.PathLike)):
            local = Path(local_file)
            status = local.stat()
            if not local.is_file():
                raise InvalidError(f"`{local}` is not a file")
            self.uploads.append(Upload(lambda: local.open("rb"), path, _mode(mode, status.st_mode)))
        else:
            opened = local_file
            self.uploads.append(
                Upload(lambda: contextlib.nullcontext(opened), path, _mode(mode, 0o644))
            )

    def put_directory(
        self,
        local_path: str | os.PathLike[str],
        remote_path: str | PurePosixPath,
        recursive: bool = True,
    ) -> None:
        """Add the files of a directory, and of those below it."""
        local = Path(local_path)
        if not local.exists():
            raise FileNotFoundError(local)
        if not local.is_dir():
            raise NotADirectoryError(str(local))
        paths = local.rglob("*") if recursive else local.iterdir()
        for path in sorted(path for path in paths if path.is_file()):
            self.put_file(path, PurePosixPath(remote_path) / path.relative_to(local).as_posix())


@contextlib.contextmanager
def _translated(path: str) -> Iterator[None]:
    """Raise the same exceptions as the API's errors become; a full disk stays an `OSError`."""
    try:
        yield
    except FileNotFoundError:
        raise MissingError(f"`{path}`: there is no such file or directory") from None
    except FileExistsError:
        raise ExistsError(f"`{path}`: it exists already") from None
    except ValueError as error:
        raise InvalidError(str(error)) from None
    except (IsADirectoryError, NotADirectoryError, PermissionError) as error:
        raise InvalidError(f"`{path}`: {error.strerror}") from None


def _mode(requested: int | None, own: int) -> int:
    return (own if requested is None else requested) & 0o777
