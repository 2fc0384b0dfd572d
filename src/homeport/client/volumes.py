"""Volumes, and the files in them."""

from collections.abc import AsyncIterator

from homeport.client.connection import Connection, as_, content_of, path_of
from homeport.contract import query
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


class Volumes:
    """Keeps directories that functions share. A volume's `name` may be its id, too."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def every(self, wanted: VolumesQuery) -> tuple[StoredVolume, ...]:
        path = f"/v1/volumes?{query.encode(wanted)}"
        return (await self._connection.ask(VolumeList, "GET", path)).volumes

    async def one(self, name: str) -> StoredVolume:
        return await self._connection.ask(StoredVolume, "GET", path_of("volumes", name))

    async def create(self, wanted: NewVolume) -> StoredVolume:
        return await self._connection.ask(StoredVolume, "POST", "/v1/volumes", wanted)

    async def rename(self, name: str, new: str) -> StoredVolume:
        body = VolumeName(name=new)
        return await self._connection.ask(
            StoredVolume, "POST", path_of("volumes", name, "rename"), body
        )

    async def delete(self, name: str) -> None:
        await self._connection.call("DELETE", path_of("volumes", name))

    async def files(self, name: str, wanted: FilesQuery) -> AsyncIterator[FileEntry]:
        """Yield the entries of a volume's directory."""
        path = f"{path_of('volumes', name, 'files')}?{query.encode(wanted)}"
        async with self._connection.stream(as_(FileEntry), "GET", path) as entries:
            async for entry in entries:
                yield entry

    async def read(self, name: str, path: str) -> AsyncIterator[bytes]:
        """Yield a file in pieces."""
        path = f"{path_of('volumes', name, 'file')}?{query.encode(FileQuery(path=path))}"
        async with self._connection.answer("GET", path) as reply:
            async for piece in reply.pieces():
                yield piece

    async def write(self, name: str, wanted: FileQuery, content: AsyncIterator[bytes]) -> None:
        await self._connection.call(
            "PUT", f"{path_of('volumes', name, 'file')}?{query.encode(wanted)}", content
        )

    async def remove(self, name: str, wanted: FilesQuery) -> None:
        await self._connection.call(
            "DELETE", f"{path_of('volumes', name, 'file')}?{query.encode(wanted)}"
        )

    async def copy(self, name: str, wanted: Copy) -> None:
        await self._connection.call("POST", path_of("volumes", name, "copy"), content_of(wanted))

    async def commit(self, name: str) -> None:
        """Write everything that was written so far through to the server's disk."""
        await self._connection.call("POST", path_of("volumes", name, "commit"))
