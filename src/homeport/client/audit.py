"""The audit log."""

from homeport.client.connection import Connection
from homeport.contract import query
from homeport.contract.api.audit import AuditEntry, AuditList, AuditQuery


class Audit:
    """Reads the audit log."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def entries(self, wanted: AuditQuery) -> tuple[AuditEntry, ...]:
        path = f"/v1/audit?{query.encode(wanted)}"
        return (await self._connection.ask(AuditList, "GET", path)).entries
