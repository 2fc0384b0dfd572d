"""Files by content: `blobs/<first two>/<sha256>`, written once and never changed."""

import asyncio
import contextlib
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Collection, Iterable
from pathlib import Path, PurePosixPath

from homeport.contract.errors import BadRequest, NotFound, StorageError
from homeport.contract.manifest import SourceFile


class Blobs:
    """The contents of every source tree."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def missing(self, hashes: Iterable[str]) -> list[str]:
        """Those that have not been uploaded. The others are kept for a while: a deploy will come."""
        return [sha256 for sha256 in dict.fromkeys(hashes) if not _touched(self._path(sha256))]

    async def put(self, sha256: str, content: AsyncIterator[bytes]) -> None:
        """Store a file; `BadRequest` where the content has another hash. A cut upload leaves nothing."""
        target = self._path(sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{sha256}.{secrets.token_hex(4)}.part")
        digest = hashlib.sha256()
        try:
            with part.open("wb") as file:
                async for chunk in content:
                    digest.update(chunk)
                    file.write(chunk)
                if digest.hexdigest() != sha256:
                    raise BadRequest(
                        f"the content of {sha256[:12]}… has another hash: send it again"
                    )
                # A power cut must not leave an empty file under a hash that is never sent again.
                file.flush()
                await asyncio.to_thread(os.fsync, file.fileno())
            part.replace(target)
        except OSError as error:
            raise StorageError(f"cannot store an uploaded file: {error.strerror}") from error
        finally:
            part.unlink(missing_ok=True)

    async def lay_out(self, files: Iterable[SourceFile], tree: Path) -> None:
        """Write a source tree; a half-written one never has the final name."""
        await asyncio.to_thread(self._lay_out, tuple(files), tree)

    async def sweep(self, needed: Collection[str], kept_s: float) -> None:
        """Remove files that nothing needs and that nobody has uploaded or asked for in `kept_s`."""
        await asyncio.to_thread(self._sweep, frozenset(needed), time.time() - kept_s)

    def _sweep(self, needed: frozenset[str], before: float) -> None:
        for path in self._root.glob("*/*"):
            with contextlib.suppress(OSError):  # one that cannot be looked at stays
                if path.name not in needed and path.stat().st_mtime < before:
                    path.unlink()

    def _lay_out(self, files: tuple[SourceFile, ...], tree: Path) -> None:
        if tree.exists():
            return
        part = tree.with_name(f"{tree.name}.{secrets.token_hex(4)}.part")
        try:
            part.mkdir(parents=True, mode=0o700)
            for file in files:
                target = part / _inside(file.path)
                target.parent.mkdir(parents=True, exist_ok=True)
                # A copy and not a link: what a container writes must not change the blob.
                shutil.copyfile(self._existing(file), target)
                target.chmod(file.mode & 0o777 | 0o400)
            part.replace(tree)
        except OSError as error:
            raise StorageError(
                f"cannot write the source tree: {error.strerror}",
                hint="`df -h` shows which disk is full",
            ) from error
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def _existing(self, file: SourceFile) -> Path:
        path = self._path(file.sha256)
        if not path.exists():
            raise NotFound(f"the content of `{file.path}` was not uploaded")
        return path

    def _path(self, sha256: str) -> Path:
        if len(sha256) != 64 or not all(c in "0123456789abcdef" for c in sha256):
            raise BadRequest(f"{sha256[:80]!r} is not a SHA-256 in hex")
        return self._root / sha256[:2] / sha256


def _touched(path: Path) -> bool:
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    except OSError:
        return path.exists()
    return True


def _inside(path: str) -> PurePosixPath:
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or not pure.parts:
        raise BadRequest(f"`{path}` is not a path inside the source tree")
    return pure
