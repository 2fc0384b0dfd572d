"""Stores uploaded files by their content: `blobs/<first two>/<sha256>`, written once and never changed.

A sweep deletes those that nothing needs. A backup, which is another process, holds the directory locked meanwhile.

Workspaces share the content and not the knowledge of it. An empty file `<sha256>.of-<workspace>` says that a workspace
has uploaded the content. Without it the content is missing for that workspace: so nobody can find out whether another
one has a file, or use a file by its hash alone.
"""

import asyncio
import contextlib
import dataclasses
import fcntl
import hashlib
import logging
import os
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Collection, Iterable, Iterator
from pathlib import Path, PurePosixPath

from homeport import durable
from homeport.contract import validate
from homeport.contract.errors import BadRequest, NotFound, StorageError
from homeport.contract.image import outside
from homeport.contract.manifest import SourceFile
from homeport.contract.scope import MAIN
from homeport.contract.sizes import MIB

CHUNK_BYTES = MIB
MARK = ".of-"

log = logging.getLogger(__name__)


@contextlib.contextmanager
def unswept(root: Path) -> Iterator[None]:
    """Let no process delete a file below `root` until the end of the block; a sweep that runs ends first."""
    with contextlib.ExitStack() as locked:
        with contextlib.suppress(FileNotFoundError):  # nothing was uploaded yet
            locked.enter_context(_locked(root, fcntl.LOCK_SH))
        yield


@contextlib.contextmanager
def _locked(root: Path, how: int) -> Iterator[None]:
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)


class Blobs:
    """The files of all source trees."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._synced: set[Path] = set()

    def missing(self, hashes: Iterable[str], workspace: str = MAIN.workspace) -> list[str]:
        """Return the hashes that the workspace has not uploaded; keep the others for a while, for the deploy that follows."""
        return [
            sha256
            for sha256 in dict.fromkeys(hashes)
            if not (_touched(self._mark(sha256, workspace)) and _touched(self._path(sha256)))
        ]

    def check(self, files: Iterable[SourceFile], workspace: str) -> None:
        """Raise `NotFound` for a file that the workspace has not uploaded."""
        lacking = {*self.missing((file.sha256 for file in files), workspace)}
        for file in files if lacking else ():
            if file.sha256 in lacking:
                raise NotFound(f"the content of `{file.path}` was not uploaded")

    async def put(
        self, sha256: str, content: AsyncIterator[bytes], workspace: str = MAIN.workspace
    ) -> None:
        """Store a file that a workspace uploads; `BadRequest` if the content has another hash.

        An incomplete upload leaves no file.
        """
        target = self._path(sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{sha256}.{secrets.token_hex(4)}.part")
        digest, size_bytes = hashlib.sha256(), 0
        try:
            with part.open("wb") as file:
                async for chunk in content:
                    size_bytes += len(chunk)
                    if size_bytes > validate.MAX_FILE_BYTES:
                        raise BadRequest(f"a file has more than {validate.MAX_FILE_BYTES} bytes")
                    digest.update(chunk)
                    file.write(chunk)
            if digest.hexdigest() != sha256:
                raise BadRequest(f"the content of {sha256[:12]}… has another hash: send it again")
            part.replace(target)
            self._mark(sha256, workspace).touch(mode=0o600)
        except OSError as error:
            raise StorageError(f"cannot store an uploaded file: {error.strerror}") from error
        finally:
            part.unlink(missing_ok=True)

    def read(self, sha256: str) -> bytes | None:
        """Return a file's content, None if it was deleted; blocks. Call it only with the hashes of kept revisions."""
        with contextlib.suppress(OSError):
            return self._path(sha256).read_bytes()
        return None

    async def forget(self, workspace: str) -> None:
        """Let a later workspace of this name use no file by its hash that this one has uploaded."""
        await asyncio.to_thread(self._forget, workspace)

    def _forget(self, workspace: str) -> None:
        for path in self._root.glob(f"*/*{MARK}{workspace}"):
            path.unlink(missing_ok=True)

    async def lay_out(self, files: Iterable[SourceFile], tree: Path) -> None:
        """Write a source tree; it gets its final name when it is complete."""
        await asyncio.to_thread(self._lay_out, tuple(files), tree)

    async def sync(self, files: Iterable[SourceFile]) -> None:
        """Write files through to the disk, before the client is told that they are stored.

        All files at once, because one after the other took 5 ms each; files already on the disk take none.
        """
        try:
            await asyncio.to_thread(self._sync, {self._path(file.sha256) for file in files})
        except OSError as error:
            raise StorageError(f"cannot store the uploaded files: {error.strerror}") from error

    def _sync(self, paths: set[Path]) -> None:
        fresh = paths - self._synced
        for path in (*fresh, *{path.parent for path in fresh}):
            durable.sync(path)
        self._synced |= fresh

    async def sweep(self, needed: Collection[str], kept_s: float) -> None:
        """Delete files that are not needed and that were neither uploaded nor asked for in `kept_s`."""
        await asyncio.to_thread(self._sweep, frozenset(needed), time.time() - kept_s)

    def _sweep(self, needed: frozenset[str], before: float) -> None:
        with contextlib.suppress(FileNotFoundError):  # nothing was uploaded yet
            try:
                with _locked(self._root, fcntl.LOCK_EX | fcntl.LOCK_NB):
                    self._delete(needed, before)
            except BlockingIOError:
                log.info("a backup reads the uploaded files: the next change sweeps")

    def _delete(self, needed: frozenset[str], before: float) -> None:
        for path in self._root.glob("*/*"):
            with contextlib.suppress(OSError):  # keep a file that cannot be read
                if path.name.partition(MARK)[0] not in needed and path.stat().st_mtime < before:
                    self._synced.discard(path)
                    path.unlink()

    def _lay_out(self, files: tuple[SourceFile, ...], tree: Path) -> None:
        """Write files below /root into `tree`, and all others into the tree beside it."""
        elsewhere = [
            dataclasses.replace(file, path=file.path.removeprefix("/"))
            for file in files
            if file.path.startswith("/")
        ]
        if elsewhere:  # first: if `tree` exists, both are complete
            self._lay_out_tree(elsewhere, Path(outside(str(tree))))
        self._lay_out_tree([file for file in files if not file.path.startswith("/")], tree)

    def _lay_out_tree(self, files: Iterable[SourceFile], tree: Path) -> None:
        if tree.exists():
            return
        part = tree.with_name(f"{tree.name}.{secrets.token_hex(4)}.part")
        try:
            part.mkdir(parents=True, mode=0o700)
            for file in files:
                target = part / _inside(file.path)
                target.parent.mkdir(parents=True, exist_ok=True)
                self._copy(file, target)
                target.chmod(file.mode & 0o777 | 0o400)
            part.replace(tree)
        except OSError as error:
            raise StorageError(
                f"cannot write the source tree: {error.strerror}",
                hint="`df -h` shows which disk is full",
            ) from error
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def _copy(self, file: SourceFile, target: Path) -> None:
        """Copy a blob; a link would let containers change the blob."""
        path = self._path(file.sha256)
        digest = hashlib.sha256()
        try:
            with path.open("rb") as source, target.open("xb") as copy:
                while chunk := source.read(CHUNK_BYTES):
                    digest.update(chunk)
                    copy.write(chunk)
        except FileNotFoundError:
            raise NotFound(f"the content of `{file.path}` was not uploaded") from None
        if digest.hexdigest() != file.sha256:  # possible after a power cut
            path.unlink(missing_ok=True)
            raise NotFound(
                f"the content of `{file.path}` is damaged on the server", hint="deploy it again"
            )

    def _mark(self, sha256: str, workspace: str) -> Path:
        path = self._path(sha256)
        return path.with_name(f"{path.name}{MARK}{workspace}")

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
