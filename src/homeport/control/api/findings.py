"""The route of problems that the server can find. `homeport doctor` also checks the needs of commands."""

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

from homeport.contract.api.alerts import Finding, FindingList
from homeport.contract.api.apps import AppState
from homeport.contract.api.server import Status
from homeport.contract.scope import Scope
from homeport.contract.sizes import GIB
from homeport.control.alerts import rules
from homeport.control.api.access import Caller
from homeport.control.api.routing import route
from homeport.control.api.view import View
from homeport.control.deploys.canaries import has_failed
from homeport.control.deploys.parts import Parts
from homeport.state.alerts import Alerts

LEAST_BYTES = GIB  # of free disk


class Findings:
    """Finds problems."""

    def __init__(self, view: View, parts: Parts, alerts: Alerts) -> None:
        self._view, self._parts, self._alerts = view, parts, alerts

    @route("GET", "/v1/findings")
    async def every(self, caller: Caller) -> FindingList:
        """List what is wrong, the worst first; what the whole server needs only to callers of the whole server."""
        status = await self._view.status(caller.sees)
        findings = [*self._of_alerts(caller), *of_apps(status)]
        if caller.is_of_server:
            home = self._parts.settings.home
            free = (await asyncio.to_thread(shutil.disk_usage, home)).free
            findings = [*of_server(status, home, free), *findings, *self._of_machine()]
        return FindingList(findings=tuple(sorted(findings, key=lambda finding: not finding.needed)))

    def _of_alerts(self, caller: Caller) -> Iterator[Finding]:
        for row in self._alerts.all():
            scope = Scope(row.workspace, row.environment)
            if row.state == rules.FIRING and caller.sees(scope):
                text = f"`{row.name}`: {row.told or row.kind}"
                yield Finding(what="alert", text=text, app=row.app)

    def _of_machine(self) -> Iterator[Finding]:
        settings = self._parts.settings
        for capacity in self._parts.nodes.capacities():
            if not capacity.isolated and settings.isolation != "off":
                yield Finding(
                    what="isolation",
                    text="containers have no sandbox",
                    hint="`homeport doctor` says what stands in the way",
                    needed=settings.isolation == "on",
                )


def of_server(status: Status, home: Path, free_bytes: int) -> Iterator[Finding]:
    """Yield the problems of the server itself."""
    if status.trouble:
        text = f"{status.trouble}; what is deployed continues to serve, and changes are refused"
        yield Finding(what="database", text=text)
    if not status.ingress_pid:
        yield Finding(what="HAProxy", text="it does not run", hint="`server.log` says why")
    if free_bytes < LEAST_BYTES:
        yield Finding(
            what="disk",
            text=f"{home} has {free_bytes // (1024 * 1024)} MiB left",
            hint="`homeport image prune` frees what no app needs",
        )


def of_apps(status: Status) -> Iterator[Finding]:
    """Yield the problems of the apps."""
    for app in status.apps:
        if app.state is AppState.BROKEN:
            text = f"`{app.name}` cannot be served: {app.reason}; it is tried again"
            yield Finding(what="app", text=text, app=app.name)
        if app.canary is not None and has_failed(app.canary, app.version):
            yield Finding(
                what="canary",
                text=f"v{app.canary.version} of `{app.name}` was rolled back: {app.canary.reason}",
                app=app.name,
                hint=f"v{app.version} serves all requests; the next deploy takes this away",
            )
        for endpoint in app.endpoints:
            if endpoint.certificate_error:
                yield Finding(
                    what="certificate",
                    text=f"`{app.name}.{endpoint.tag}`: {endpoint.certificate_error}",
                    app=app.name,
                    hint="`homeport certificate list` shows when it is tried again",
                    needed=endpoint.certificate != "valid",
                )
