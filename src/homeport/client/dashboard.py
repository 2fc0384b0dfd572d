"""The dashboard."""

from homeport.client.connection import Connection
from homeport.contract.api.dashboard import DashboardLink

ANSWER_S = 180.0  # its first container starts


class Dashboard:
    """Makes links to the dashboard."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def link(self) -> DashboardLink:
        """Return a link that logs in once; the server deploys the dashboard if it is not deployed."""
        return await self._connection.ask(DashboardLink, "POST", "/v1/dashboard", answer_s=ANSWER_S)
