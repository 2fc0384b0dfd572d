"""Dicts and queues, which containers share."""

from typing import Literal

from homeport.client.connection import Connection, path_of
from homeport.contract import frames
from homeport.contract.api.shared import Count, NewObject, ObjectList, StoredObject


class Shared:
    """The dicts, or the queues. The `name` of one may be its id, too."""

    def __init__(self, connection: Connection, kind: Literal["dicts", "queues"]) -> None:
        self._connection = connection
        self._kind = kind

    async def every(self) -> tuple[StoredObject, ...]:
        return (await self._connection.ask(ObjectList, "GET", path_of(self._kind))).objects

    async def one(self, name: str) -> StoredObject:
        return await self._connection.ask(StoredObject, "GET", self._of(name))

    async def create(self, wanted: NewObject) -> StoredObject:
        return await self._connection.ask(StoredObject, "POST", path_of(self._kind), wanted)

    async def delete(self, name: str) -> None:
        await self._connection.call("DELETE", self._of(name))

    async def exchange(self, method: str, name: str, path: str, content: bytes = b"") -> bytes:
        """Send a request about one object: `path` is the path after its name, with the query."""
        return await self._connection.call(method, f"{self._of(name)}/{path}", content)

    async def parts(
        self, method: str, name: str, path: str, content: bytes = b""
    ) -> list[bytes | None]:
        """Send a request whose answer is packed (contract/frames.py); return its parts, of which there is one at least."""
        return self._connection.read(_parts, await self.exchange(method, name, path, content))

    async def count(self, name: str, path: str) -> int:
        """Return how many values an object has."""
        return (await self._connection.ask(Count, "GET", f"{self._of(name)}/{path}")).count

    def _of(self, name: str) -> str:
        return path_of(self._kind, name)


def _parts(data: bytes) -> list[bytes | None]:
    parts = frames.unpack(data)
    if not parts:
        raise ValueError("an answer has a part")
    return parts
