"""Volumes through the server's API: for scripts on the user's machine; a container never imports this."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, BinaryIO

from homeport.contract import api
from homeport.sdk import outside
from homeport.sdk.objects.volume_files import CHUNK_BYTES, Upload
from homeport.tree import Entry


def create(name: str, *, allow_existing: bool = False) -> api.StoredVolume:
    """Create a volume; without a name an ephemeral one."""
    wanted = api.NewVolume(name=name, allow_existing=allow_existing)
    created: api.StoredVolume = outside.ask(lambda client: client.create_volume(wanted))
    return created


def find(name: str) -> api.StoredVolume:
    """Return the volume of a name or an id."""
    found: api.StoredVolume = outside.ask(lambda client: client.volume(name))
    return found


def every() -> Sequence[api.StoredVolume]:
    """Return the volumes that have a name."""
    found: Sequence[api.StoredVolume] = outside.ask(
        lambda client: client.volumes(api.VolumesQuery())
    )
    return found


def rename(name: str, new: str) -> None:
    """Give a volume another name."""
    outside.ask(lambda client: client.rename_volume(name, new))


def delete(name: str) -> None:
    """Delete a volume and its files."""
    outside.ask(lambda client: client.delete_volume(name))


class Remote:
    """Through the API, by a volume's name or id."""

    def __init__(self, name: str) -> None:
        self._name = name

    def entries(self, path: str, *, recursive: bool) -> Iterator[Entry]:
        """Yield what a directory has."""
        wanted = api.FilesQuery(path=path, recursive=recursive)
        for found in outside.stream(lambda client: client.files(self._name, wanted)):
            yield Entry(found.path, found.type, found.size, found.mtime, 0)

    def read(self, path: str) -> Iterator[bytes]:
        """Yield a file in pieces."""
        return outside.stream(lambda client: client.read_file(self._name, path))

    def remove(self, path: str, *, recursive: bool) -> None:
        """Remove a file, or a directory."""
        wanted = api.FilesQuery(path=path, recursive=recursive)
        outside.ask(lambda client: client.remove_file(self._name, wanted))

    def copy(self, sources: Sequence[str], target: str, *, recursive: bool) -> None:
        """Copy files within the volume."""
        wanted = api.Copy(sources=tuple(sources), target=target, recursive=recursive)
        outside.ask(lambda client: client.copy_files(self._name, wanted))

    def upload(self, uploads: Sequence[Upload], *, force: bool) -> None:
        """Write files, and have them on the server's disk for good."""

        async def work(client: Any) -> None:
            for upload in uploads:
                with upload.source() as source:
                    wanted = api.FileQuery(path=upload.path, mode=f"{upload.mode:o}", force=force)
                    await client.write_file(self._name, wanted, _chunks(source))
            if uploads:
                await client.commit_volume(self._name)

        outside.ask(work)


async def _chunks(source: BinaryIO) -> AsyncIterator[bytes]:
    while chunk := await asyncio.to_thread(source.read, CHUNK_BYTES):
        yield chunk
