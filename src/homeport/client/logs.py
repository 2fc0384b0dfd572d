"""Log lines of apps."""

from collections.abc import AsyncIterator

from homeport.client.connection import Connection, as_, path_of
from homeport.contract import query
from homeport.contract.api.logs import LogQuery
from homeport.contract.container import LogLine


class Logs:
    """Reads the logs of apps."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def read(self, name: str, lines_query: LogQuery) -> AsyncIterator[LogLine]:
        """Yield an app's log lines, the oldest first."""
        path = f"{path_of('apps', name, 'logs')}?{query.encode(lines_query)}"
        async with self._connection.stream(as_(LogLine), "GET", path) as lines:
            async for line in lines:
                yield line
