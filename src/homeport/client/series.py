"""What has happened over time."""

from homeport.client.connection import Connection
from homeport.contract import query
from homeport.contract.api.series import Series, SeriesQuery


class OverTime:
    """Counts what has happened, by steps of time."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def series(self, wanted: SeriesQuery) -> Series:
        """Return the requests, containers and deployments of some time."""
        return await self._connection.ask(Series, "GET", f"/v1/series?{query.encode(wanted)}")
