"""Source trees on a node: fetched from the control plane, each file checked by its hash and kept for the next tree.

A tree appears under its name when it is complete. The control plane is trusted, yet a path that leads out of the tree
or a file that is too long is refused: a mistake there must not overwrite this machine's files.
"""

import asyncio
import contextlib
import hashlib
import os
import secrets
import time
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path, PurePosixPath
from typing import Any
from weakref import WeakValueDictionary

from homeport import durable, removing
from homeport.contract.errors import StorageError
from homeport.contract.image import OUTSIDE
from homeport.link import trust
from homeport.link.calls import Entry, Piece

BUILD = ".build"
MOST_TREE_BYTES = 4 * 2**30
CACHE_BYTES = 2**30
UNUSED_S = 3600.0  # a tree that no container had for so long is deleted; a start fetches it again
AT_ONCE = 8  # files that are fetched at the same time

#: A call to the control plane.
Ask = Callable[[str, dict[str, Any]], Awaitable[Any]]


class Trees:
    """The trees below a directory, and the files of earlier ones."""

    def __init__(self, directory: Path, cache: Path, ask: Ask) -> None:
        self.directory, self._cache, self._ask = directory, cache, ask
        self._fetching: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def open(self) -> None:
        """Make the directories, and delete what an earlier process left half done, or what was there before the machine started. Blocks."""
        for folder in (self.directory, self._cache):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for left in folder.glob(".*.part"):
                removing.discard(str(left))
        # A power cut may have taken what the files of a tree had; the cached ones are checked when they are used.
        mark, boot = self.directory.with_name("boot"), durable.boot().encode()
        with contextlib.suppress(OSError):  # a full disk: the next start deletes them again
            if mark.exists() and mark.read_bytes() == boot:
                return
            for tree in self.directory.iterdir():
                removing.discard(str(tree))
            mark.write_bytes(boot)

    def place(self, tree: str) -> str:
        """Return where a tree is, or will be; empty for no tree."""
        if not tree:
            return ""
        if not trust.is_tree(tree):
            raise StorageError(f"{tree[:60]!r} cannot be the name of a tree")
        return str(self.directory / tree)

    async def fetched(self, source: str) -> None:
        """Return when the tree at this place, and the one beside it, are complete."""
        if source:
            tree = Path(source).name
            await self._one(tree)
            await self._one(f"{tree}{OUTSIDE}")

    async def fetched_for_build(self, source: str) -> None:
        """Fetch also what the steps of an image read."""
        await self.fetched(source)
        if source:
            self.end_build(source)
            await self._one(f"{Path(source).name}{BUILD}")

    def end_build(self, source: str) -> None:
        """Delete what only a build needs."""
        if source:
            with contextlib.suppress(OSError):
                self._discard(Path(f"{source}{BUILD}"))

    def sweep(self, used: Collection[str], now: float) -> None:
        """Delete trees that no container has had for long, and the oldest of too many cached files. Blocks."""
        for tree in self.directory.iterdir():
            if tree.name.startswith("."):
                continue  # it is not complete yet
            with contextlib.suppress(OSError):
                name = tree.name.removesuffix(OUTSIDE).removesuffix(BUILD)
                if str(self.directory / name) in used:
                    os.utime(tree)
                elif now - tree.stat().st_mtime > UNUSED_S:
                    self._discard(tree)
        files = []
        for path in self._cache.iterdir():
            with contextlib.suppress(FileNotFoundError):  # it has just been complete
                files.append((path.stat(), path))
        left = sum(status.st_size for status, _path in files)
        for status, path in sorted(files, key=lambda file: file[0].st_mtime):
            if left <= CACHE_BYTES:
                break
            path.unlink(missing_ok=True)
            left -= status.st_size

    def _discard(self, tree: Path) -> None:
        """Delete a tree; one that is half deleted has no longer its name."""
        part = self._part(tree.name)
        tree.rename(part)
        removing.discard(str(part))

    def _part(self, tree: str) -> Path:
        return self.directory / f".{tree}.{secrets.token_hex(4)}.part"

    async def _one(self, tree: str) -> None:
        target = Path(self.place(tree))
        async with self._fetching.setdefault(tree, asyncio.Lock()):
            if await asyncio.to_thread(_is_there, target):
                return
            entries: tuple[Entry, ...] = await self._ask("tree", {"tree": tree})
            if not entries and tree.endswith((OUTSIDE, BUILD)):
                return
            if sum(entry.size_bytes for entry in entries) > MOST_TREE_BYTES:
                raise StorageError(f"the files of `{tree}` are too large for a node")
            part = self._part(tree)
            turns = asyncio.Semaphore(AT_ONCE)

            async def fetch(entry: Entry) -> None:
                async with turns:
                    await self._file(tree, entry, part)

            try:
                part.mkdir(mode=0o755)
                async with asyncio.TaskGroup() as group:
                    for entry in entries:
                        group.create_task(fetch(entry))
                part.rename(target)
            except ExceptionGroup as failed:
                raise failed.exceptions[0] from None
            except OSError as error:
                raise StorageError(f"`{tree}` cannot be written: {error.strerror}") from None
            finally:
                await asyncio.to_thread(removing.discard, str(part))

    async def _file(self, tree: str, entry: Entry, part: Path) -> None:
        place = _within(entry.path, part)
        if len(entry.sha256) != 64 or not entry.sha256.isalnum():
            raise StorageError(f"`{tree}` has a file without a hash")
        cached = self._cache / entry.sha256
        if await asyncio.to_thread(_copied, cached, place, entry):
            return
        fresh = self._cache / f".{entry.sha256}.{secrets.token_hex(4)}.part"
        digest, size = hashlib.sha256(), 0
        try:
            with fresh.open("xb") as file:
                while size < entry.size_bytes:
                    arguments = {"tree": tree, "sha256": entry.sha256, "offset": size}
                    piece: Piece = await self._ask("piece", arguments)
                    size += len(piece.data)
                    if not piece.data or size > entry.size_bytes:
                        break
                    digest.update(piece.data)
                    file.write(piece.data)
            if size != entry.size_bytes or digest.hexdigest() != entry.sha256:
                raise StorageError(f"`{entry.path[:200]}` of `{tree}` came damaged")
            fresh.replace(cached)
        finally:
            fresh.unlink(missing_ok=True)
        if not await asyncio.to_thread(_copied, cached, place, entry):
            raise StorageError(f"`{entry.path[:200]}` of `{tree}` cannot be kept")


def _is_there(tree: Path) -> bool:
    """Return whether a tree exists; it is used from now on, so a sweep leaves it."""
    try:
        os.utime(tree)
    except FileNotFoundError:
        return False
    return True


def _within(path: str, root: Path) -> Path:
    """Return a file's place in a tree; `StorageError` for a path that leads out of it."""
    pure = PurePosixPath(path)
    if not path or pure.is_absolute() or ".." in pure.parts or "\0" in path or not pure.name:
        raise StorageError(f"{path[:100]!r} cannot be a file of a tree")
    return root / pure


def _copied(cached: Path, place: Path, entry: Entry) -> bool:
    """Copy a cached file to its place; False if it is not in the cache, or damaged there.

    A copy, not a link: a container may write to its files.
    """
    try:
        content = cached.read_bytes()
    except FileNotFoundError:
        return False
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        cached.unlink(missing_ok=True)
        return False
    os.utime(cached, (time.time(), time.time()))
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    place.chmod(entry.mode & 0o755 | 0o600)
    return True
