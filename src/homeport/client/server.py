"""The server itself."""

from homeport.client.connection import Connection
from homeport.contract.api.answers import Nothing
from homeport.contract.api.server import Status

ANSWER_S = 15.0  # how long the server may take to answer


class Server:
    """Asks for the server's status, and ends it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def status(self) -> Status:
        return await self._connection.ask(Status, "GET", "/v1/status", answer_s=ANSWER_S)

    async def keep(self) -> None:
        """Let the server outlive the command that started it."""
        await self._connection.ask(Nothing, "POST", "/v1/keep")

    async def shutdown(self) -> None:
        await self._connection.ask(Nothing, "POST", "/v1/shutdown", answer_s=ANSWER_S)
