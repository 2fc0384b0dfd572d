"""The route of problems that the server can find. `homeport doctor` also checks the needs of commands."""

import asyncio
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from homeport.contract.api.alerts import Finding, FindingList
from homeport.contract.api.apps import AppState
from homeport.contract.api.nodes import JoinedNode
from homeport.contract.api.server import Status
from homeport.contract.scope import Scope
from homeport.contract.sizes import GIB, MIB
from homeport.control.api.access import Caller
from homeport.control.api.routing import route
from homeport.control.api.view import View
from homeport.control.deploys.canaries import has_failed
from homeport.control.deploys.parts import Parts
from homeport.control.fleet.machines import Machines
from homeport.control.fleet.mirror import Health
from homeport.control.fleet.nodes import OWN
from homeport.control.reporting.alerts import rules
from homeport.state.alerts import Alerts

LEAST_BYTES = GIB  # of free disk
MOST_OFF_S = 5.0  # of a machine's clock
WRONG_S = 600.0  # from then on its times are not used (link/trust.py)
#: Why a machine does not share volumes -> in words, and what can be done.
VOLUMES = {
    "not set": ("`shared_volumes` is not set there", "set HOMEPORT_SHARED_VOLUMES there, and start its agent again"),
    "not marked": ("its `shared_volumes` is not the server's", "is it mounted there?"),
    "other users": (
        "containers there have other user ids than here",
        "run both as root, or as the same user with the same ranges in /etc/subuid and /etc/subgid",
    ),
}  # fmt: skip
RENEWED_S = 5 * 86400.0  # a certificate of two weeks is renewed after one


class Findings:
    """Finds problems."""

    def __init__(
        self,
        view: View,
        parts: Parts,
        alerts: Alerts,
        nodes: Callable[[], Sequence[JoinedNode]] = tuple,
        machines: Machines | None = None,
    ) -> None:
        """`nodes` returns the machines that have joined; `machines` know why none can be asked of a Ray cluster."""
        self._view, self._parts, self._alerts, self._nodes = view, parts, alerts, nodes
        self._machines = machines

    @route("GET", "/v1/findings")
    async def every(self, caller: Caller) -> FindingList:
        """List what is wrong, the worst first; what the whole server needs only to callers of the whole server."""
        status = await self._view.status(caller.sees)
        findings = [*self._of_alerts(caller), *of_apps(status)]
        if caller.is_of_server:
            home = self._parts.settings.home
            free = (await asyncio.to_thread(shutil.disk_usage, home)).free
            machines = of_machines(self._nodes(), status.version, time.time())
            findings = [
                *of_server(status, home, free),
                *machines,
                *of_ray(self._machines.ray_trouble if self._machines else ""),
                *findings,
                *self._without_isolation(),
            ]
        return FindingList(findings=tuple(sorted(findings, key=lambda finding: not finding.needed)))

    def _of_alerts(self, caller: Caller) -> Iterator[Finding]:
        for row in self._alerts.all():
            scope = Scope(row.workspace, row.environment)
            if row.state == rules.FIRING and caller.sees(scope):
                text = f"`{row.name}`: {row.told or row.kind}"
                yield Finding(what="alert", text=text, app=row.app)

    def _without_isolation(self) -> Iterator[Finding]:
        settings = self._parts.settings
        for mirror in self._parts.nodes.mirrors.values():
            capacity, is_own = mirror.capacity, mirror.name == OWN
            is_there = mirror.health is not Health.GONE
            if capacity and is_there and not capacity.isolated and settings.isolation != "off":
                where = "" if is_own else f" of the machine `{mirror.name}`"
                yield Finding(
                    what="isolation",
                    text=f"containers{where} have no sandbox",
                    hint="`homeport doctor`, on that machine, says what stands in the way",
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


def of_ray(trouble: str) -> Iterator[Finding]:
    """Yield what stands in the way of asking a Ray cluster for machines."""
    if trouble:
        text = f"{trouble}; machines that have joined continue, and none is added"
        yield Finding(what="Ray", text=text, hint="`ray.log` in the home says more")


def of_machines(nodes: Iterable[JoinedNode], version: str, now: float) -> Iterator[Finding]:
    """Yield the problems of the machines that have joined; `version` is that of this server."""
    for node in nodes:
        for text, hint, needed in _of_machine(node, version, now):
            yield Finding(what="machine", text=f"`{node.name}`: {text}", hint=hint, needed=needed)


def _of_machine(node: JoinedNode, version: str, now: float) -> Iterator[tuple[str, str, bool]]:
    """Yield what is wrong with a machine, what can be done, and whether that is needed."""
    if node.health == "gone":
        hint = "start its agent again, or forget it: `homeport node remove`"
        yield "it does not answer, and its containers were replaced", hint, not node.drained
        return
    if node.health == "suspect":
        yield "it does not answer at the moment", "its containers are replaced if that lasts", False
    if node.unreached:
        hint = "let its firewall allow this machine to connect to that port; or name another address: `homeport node join --reach`"
        yield f"requests cannot reach its containers at {node.unreached}", hint, True
    if node.cannot_call:
        hint = "let this machine's firewall allow that machine to connect to that port"
        yield f"its containers cannot call functions: {node.cannot_call}", hint, True
    if node.no_entrance:
        hint = (
            "end the program that has the port, on that machine; or set HOMEPORT_ENTRANCE=off there"
        )
        yield f"visitors cannot come in at {node.no_entrance}", hint, False
    if node.version and node.version != version:
        hint = "install the same version on all machines: `homeport service upgrade`"
        yield f"it has homeport {node.version}, and this server {version}", hint, False
    if node.clock_off_s is not None and abs(node.clock_off_s) > MOST_OFF_S:
        way = "ahead" if node.clock_off_s > 0 else "behind"
        hint = "`timedatectl set-ntp true`, on that machine; the times of its log lines are wrong"
        text = f"its clock is {abs(node.clock_off_s):.0f} s {way}"
        yield text, hint, abs(node.clock_off_s) > WRONG_S
    if node.certificate_until is not None and node.certificate_until - now < RENEWED_S:
        days = (node.certificate_until - now) / 86400
        hint = f"`homeport node logs {node.name}` may say why it was not renewed"
        yield f"its certificate ends in {max(days, 0.0):.1f} days, and cuts it off then", hint, True
    if why := VOLUMES.get(node.volumes):
        yield f"its containers cannot have volumes: {why[0]}", why[1], False
    if node.free_mib is not None and node.free_mib * MIB < LEAST_BYTES:
        yield f"its disk has {node.free_mib} MiB left", "make room on it", True


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
