"""The archive of a layer as a stream: without its compression, read only forward, up to a limited sum.

The archive may be hostile: it may be larger than the disk once it is unpacked, and its headers may be larger than memory.
"""

import bz2
import codecs
import gzip
import lzma
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.machinery import BuiltinImporter, FrozenImporter
from typing import IO, Any

MAX_HEADER_BYTES = 2 * 1024**2  # tarfile reads a header's long names into memory at once
CHUNK_BYTES = 1024**2
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
BZIP2, XZ = b"BZh", b"\xfd7zX"  # of archives that ADD unpacks; no layer has them


class UnfitError(Exception):
    """The archive is not a layer that can be unpacked"""


def load() -> None:
    """Import modules that are otherwise imported later: in a cell, they would come from the image.

    A module that is missing even so cannot be imported from now on.
    """
    _zstd()
    for encoding in ("latin-1", "ascii", "utf-8"):
        codecs.lookup(encoding)
    import traceback  # noqa: F401 - newer Pythons print an error with it

    sys.meta_path[:] = [BuiltinImporter, FrozenImporter]


def _zstd() -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd


@contextmanager
def plain(archive: IO[bytes]) -> Iterator[Any]:
    """Return the archive without its compression."""
    beginning = archive.read(4)
    archive.seek(0)
    if beginning.startswith(GZIP):
        with gzip.GzipFile(fileobj=archive) as stream:
            yield stream
    elif beginning == ZSTD:
        zstd = _zstd()
        try:
            with zstd.ZstdFile(archive) as stream:
                yield stream
        except zstd.ZstdError as error:
            raise UnfitError(f"the archive is damaged: {error}") from None
    elif beginning.startswith(BZIP2):
        with bz2.BZ2File(archive) as stream:
            yield stream
    elif beginning == XZ:
        with lzma.LZMAFile(archive) as stream:
            yield stream
    else:
        yield archive


class Forward:
    """The stream that tarfile reads: only forward, in limited pieces, up to a limited sum."""

    def __init__(self, stream: IO[bytes], max_bytes: int) -> None:
        self._stream = stream
        self._position = 0
        self._max_bytes = max_bytes

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> None:
        if position < self._position:
            raise UnfitError("the archive leads back into itself")
        while position > self._position:
            if not self.read(min(position - self._position, CHUNK_BYTES)):
                raise UnfitError("the archive ends too early")

    def read(self, count: int = -1) -> bytes:
        if not 0 <= count <= MAX_HEADER_BYTES:
            raise UnfitError("the archive has a header that is too large")
        parts = []
        while count > 0 and (part := self._stream.read(count)):
            parts.append(part)
            count -= len(part)
            self._position += len(part)
            if self._position > self._max_bytes:
                raise UnfitError(f"it is larger than {self._max_bytes // 1024**2} MiB unpacked")
        return b"".join(parts)
