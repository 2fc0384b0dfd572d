"""Alerts, and what is wrong."""

from homeport.client.connection import Connection, path_of
from homeport.contract.api.alerts import (
    AddedAlert,
    Alert,
    AlertList,
    AlertTest,
    Finding,
    FindingList,
    NewAlert,
)


class Alerts:
    """Lists, adds, removes and tests alerts."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def every(self) -> tuple[Alert, ...]:
        return (await self._connection.ask(AlertList, "GET", "/v1/alerts")).alerts

    async def add(self, alert: NewAlert) -> AddedAlert:
        return await self._connection.ask(AddedAlert, "POST", "/v1/alerts", alert)

    async def remove(self, name: str) -> None:
        await self._connection.call("DELETE", path_of("alerts", name))

    async def test(self, name: str) -> AlertTest:
        """Send a test message; return whether it was delivered."""
        path = path_of("alerts", name, "test")
        return await self._connection.ask(AlertTest, "POST", path)

    async def findings(self) -> tuple[Finding, ...]:
        """Return the problems that the server finds, the worst first."""
        return (await self._connection.ask(FindingList, "GET", "/v1/findings")).findings
