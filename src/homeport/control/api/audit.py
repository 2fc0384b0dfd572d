"""The route of the audit log. No route changes it."""

from homeport.contract.api.audit import AuditList, AuditQuery
from homeport.contract.permissions import Permission
from homeport.contract.scope import MAIN
from homeport.control.api.access import Caller
from homeport.control.api.routing import route
from homeport.state import audit, environments


class AuditLog:
    """Shows who changed what."""

    def __init__(
        self, audit_log: audit.Audit, environment_store: environments.Environments
    ) -> None:
        self._log, self._environments = audit_log, environment_store

    @route("GET", "/v1/audit", needs=Permission.SECRETS)
    async def entries(self, caller: Caller, query: AuditQuery) -> AuditList:
        """List the changes: an admin sees all of them, other callers those in their workspace and environments."""
        visible = None
        if not (caller.is_of_server and Permission.ADMIN in caller.permissions):
            since = 0.0
            if caller.workspace != MAIN.workspace:
                since = self._environments.find_workspace(caller.workspace).created_at
            visible = audit.Seen(
                workspace=caller.workspace, environments=caller.environments, since=since
            )
        return AuditList(entries=tuple(await self._log.last(query, visible)))
