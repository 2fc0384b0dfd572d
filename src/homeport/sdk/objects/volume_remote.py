"""Volumes through the server's API: for scripts on the user's machine; a container never imports this."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, BinaryIO

from homeport.contract.api.volumes import (
    Copy,
    FileQuery,
    FilesQuery,
    NewVolume,
    StoredVolume,
    VolumesQuery,
)
from homeport.sdk import outside
from homeport.sdk.objects.volume_files import CHUNK_BYTES, Upload
from homeport.tree import Entry


def create(name: str, *, allow_existing: bool = False, environment: str = "") -> StoredVolume:
    """Create a volume; without a name an ephemeral one."""
    new = NewVolume(name=name, allow_existing=allow_existing)
    created: StoredVolume = outside.ask(
        lambda client: client.volumes.create(new), environment=environment
    )
    return created


def find(name: str, *, environment: str = "") -> StoredVolume:
    """Return the volume with this name or id."""
    stored: StoredVolume = outside.ask(
        lambda client: client.volumes.one(name), environment=environment
    )
    return stored


def every(*, environment: str = "") -> Sequence[StoredVolume]:
    """Return all volumes that have a name."""
    volumes: Sequence[StoredVolume] = outside.ask(
        lambda client: client.volumes.every(VolumesQuery()), environment=environment
    )
    return volumes


def rename(name: str, new: str, *, environment: str = "") -> None:
    """Give a volume another name."""
    outside.ask(lambda client: client.volumes.rename(name, new), environment=environment)


def delete(name: str, *, environment: str = "") -> None:
    """Delete a volume and its files."""
    outside.ask(lambda client: client.volumes.delete(name), environment=environment)


class Remote:
    """A volume's files through the API, by the volume's name or id."""

    def __init__(self, name: str, *, environment: str = "") -> None:
        self._name, self._environment = name, environment

    def entries(self, path: str, *, recursive: bool) -> Iterator[Entry]:
        """Yield the entries of a directory."""
        files_query = FilesQuery(path=path, recursive=recursive)
        for entry in outside.stream(
            lambda client: client.volumes.files(self._name, files_query),
            environment=self._environment,
        ):
            yield Entry(entry.path, entry.type, entry.size, entry.mtime, 0)

    def read(self, path: str) -> Iterator[bytes]:
        """Yield a file in pieces."""
        return outside.stream(
            lambda client: client.volumes.read(self._name, path), environment=self._environment
        )

    def remove(self, path: str, *, recursive: bool) -> None:
        """Remove a file, or a directory."""
        files_query = FilesQuery(path=path, recursive=recursive)
        outside.ask(
            lambda client: client.volumes.remove(self._name, files_query),
            environment=self._environment,
        )

    def copy(self, sources: Sequence[str], target: str, *, recursive: bool) -> None:
        """Copy files within the volume."""
        copy_order = Copy(sources=tuple(sources), target=target, recursive=recursive)
        outside.ask(
            lambda client: client.volumes.copy(self._name, copy_order),
            environment=self._environment,
        )

    def upload(self, uploads: Sequence[Upload], *, force: bool) -> None:
        """Write files through to the server's disk."""

        async def work(client: Any) -> None:
            for upload in uploads:
                with upload.source() as source:
                    file_query = FileQuery(path=upload.path, mode=f"{upload.mode:o}", force=force)
                    await client.volumes.write(self._name, file_query, _chunks(source))
            if uploads:
                await client.volumes.commit(self._name)

        outside.ask(work, environment=self._environment)


async def _chunks(source: BinaryIO) -> AsyncIterator[bytes]:
    while chunk := await asyncio.to_thread(source.read, CHUNK_BYTES):
        yield chunk
