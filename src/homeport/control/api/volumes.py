"""The routes of volumes and of the files in them."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

from starlette.responses import StreamingResponse

from homeport.contract.api.volumes import (
    Copy,
    FileEntry,
    FileQuery,
    FilesQuery,
    NewVolume,
    StoredVolume,
    VolumeList,
    VolumeName,
    VolumesQuery,
)
from homeport.contract.errors import BadRequest
from homeport.control.api.record import Audited
from homeport.control.api.routing import route
from homeport.state import volumes
from homeport.state.rows import ObjectRow
from homeport.state.scope import Scope, Scoped
from homeport.state.volumes import failing
from homeport.tree import CHUNK_BYTES, Entry

AT_ONCE = 500  # entries of a listing that are read from the disk at a time

#: Takes an environment and a volume's key; returns the apps that have it mounted.
Users = Callable[[Scope, str], Awaitable[list[str]]]


class Volumes:
    """Keeps directories that functions share. A volume's `{name}` may be its id, too."""

    def __init__(self, store: Scoped[volumes.Volumes], users: Users) -> None:
        self._store, self._users = store, users

    @route("GET", "/v1/volumes")
    async def every(self, scope: Scope, query: VolumesQuery) -> VolumeList:
        """List the volumes."""
        rows = self._store.of(scope).list()
        if not query.sizes:
            return VolumeList(volumes=tuple(map(_as_answer, rows)))
        return VolumeList(volumes=tuple([await self._measured(scope, row) for row in rows]))

    @route("POST", "/v1/volumes")
    async def create(self, scope: Scope, body: NewVolume) -> StoredVolume:
        """Create a volume."""
        row = await self._store.of(scope).create(
            body.name or None, allow_existing=body.allow_existing
        )
        return _as_answer(row)

    @route("GET", "/v1/volumes/{name}")
    async def one(self, scope: Scope, name: str) -> StoredVolume:
        """Describe a volume."""
        return _as_answer(self._store.of(scope).find(name))

    @route("DELETE", "/v1/volumes/{name}")
    async def delete(self, scope: Scope, name: str) -> None:
        """Delete a volume and its files: 400 while an app uses it."""
        row = self._store.of(scope).find(name)
        if users := await self._users(scope, self._store.of(scope).key(row)):
            apps = ", ".join(f"`{app}`" for app in users)
            raise BadRequest(
                f"the volume `{name}` is used by {apps}",
                hint="stop them first: " + "; ".join(f"`homeport app stop {app}`" for app in users),
            )
        await self._store.of(scope).delete(name)

    @route("POST", "/v1/volumes/{name}/rename")
    async def rename(self, scope: Scope, name: str, body: VolumeName) -> StoredVolume:
        """Rename a volume; containers and apps that have it mounted keep it."""
        return _as_answer(await self._store.of(scope).rename(name, body.name))

    @route("GET", "/v1/volumes/{name}/files")
    async def files(self, scope: Scope, name: str, query: FilesQuery) -> AsyncIterator[FileEntry]:
        """List a directory, or describe one file."""
        entries = (
            self._store.of(scope)
            .tree(self._store.of(scope).find(name))
            .entries(query.path, recursive=query.recursive)
        )

        def some() -> list[Entry]:
            with failing(_shown(query.path)):
                return [entry for _, entry in zip(range(AT_ONCE), entries, strict=False)]

        first = await asyncio.to_thread(some)  # a path that does not exist is a 404

        async def lines() -> AsyncIterator[FileEntry]:
            batch = first
            with contextlib.closing(entries):
                while batch:
                    for entry in batch:
                        yield _entry(entry)
                    batch = await asyncio.to_thread(some)

        return lines()

    @route("GET", "/v1/volumes/{name}/file")
    async def read(self, scope: Scope, name: str, query: FileQuery) -> StreamingResponse:
        """Download a file."""
        tree = self._store.of(scope).tree(self._store.of(scope).find(name))
        with failing(_shown(query.path)):
            descriptor = await asyncio.to_thread(tree.open, query.path)
        # An object, so that it is closed even if the visitor has left before the first piece is asked for.
        file = os.fdopen(descriptor, "rb", buffering=0)
        size = os.fstat(descriptor).st_size

        async def content() -> AsyncIterator[bytes]:
            left_bytes = size  # it may become longer meanwhile
            with file:
                while left_bytes and (
                    chunk := await asyncio.to_thread(file.read, min(left_bytes, CHUNK_BYTES))
                ):
                    left_bytes -= len(chunk)
                    yield chunk

        return StreamingResponse(
            content(),
            media_type="application/octet-stream",
            headers={"Content-Length": str(size)},
        )

    @route("PUT", "/v1/volumes/{name}/file", audit=Audited.NONE)
    async def write(
        self, scope: Scope, name: str, query: FileQuery, body: AsyncIterator[bytes]
    ) -> None:
        """Upload a file; it appears when it is complete. 409 if it exists and `force` is not `1`."""
        tree = self._store.of(scope).tree(self._store.of(scope).find(name))
        begin = partial(tree.begin, query.path, mode=_mode(query.mode), force=query.force)
        with failing(_shown(query.path)):
            writing = await asyncio.to_thread(begin)
            try:
                waiting = bytearray()
                async for chunk in body:
                    waiting += chunk
                    if len(waiting) >= CHUNK_BYTES:
                        await asyncio.to_thread(writing.write, bytes(waiting))
                        waiting.clear()
                await asyncio.to_thread(writing.write, bytes(waiting))
                await asyncio.to_thread(writing.finish)
            finally:
                writing.abort()

    @route("DELETE", "/v1/volumes/{name}/file", action="volume rm")
    async def remove(self, scope: Scope, name: str, query: FilesQuery) -> None:
        """Remove a file; with `recursive` also a directory."""
        tree = self._store.of(scope).tree(self._store.of(scope).find(name))
        with failing(_shown(query.path)):
            await asyncio.to_thread(tree.remove, query.path, recursive=query.recursive)

    @route("POST", "/v1/volumes/{name}/copy")
    async def copy(self, scope: Scope, name: str, body: Copy) -> None:
        """Copy files within a volume."""
        tree = self._store.of(scope).tree(self._store.of(scope).find(name))
        with failing(", ".join(map(_shown, body.sources[:3]))):
            await asyncio.to_thread(tree.copy, body.sources, body.target, recursive=body.recursive)

    @route("POST", "/v1/volumes/{name}/commit", action="volume put")
    async def commit(self, scope: Scope, name: str) -> None:
        """Write everything that was written so far through to the disk, then answer."""
        tree = self._store.of(scope).tree(self._store.of(scope).find(name))
        with failing(f"the volume `{name}`"):
            await asyncio.to_thread(tree.sync)

    async def _measured(self, scope: Scope, row: ObjectRow) -> StoredVolume:
        size, files = await asyncio.to_thread(self._store.of(scope).tree(row).measure)
        return _as_answer(row, size, files)


def _as_answer(row: ObjectRow, size: int | None = None, files: int | None = None) -> StoredVolume:
    return StoredVolume(
        id=row.id,
        name=row.name or "",
        created_at=row.created_at,
        size_bytes=size,
        files=files,
    )


def _entry(entry: Entry) -> FileEntry:
    path = os.fsencode(entry.path).decode("utf-8", "backslashreplace")
    return FileEntry(path=path, type=entry.kind, size=entry.size, mtime=entry.modified_at)


def _shown(path: str) -> str:
    return f"`{path[:200] or '/'}`"


def _mode(text: str) -> int:
    try:
        return int(text, 8)
    except ValueError:
        raise BadRequest(f"`mode` must be octal, such as 644, not {text[:20]!r}") from None
