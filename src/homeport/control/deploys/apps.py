"""The live apps: deployed apps and `serve` sessions that serve now, with their endpoints."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field

from homeport.contract import hosts
from homeport.contract.api.events import SessionEvent
from homeport.contract.dataclass import dataclass
from homeport.contract.errors import LabelTaken, PortTaken
from homeport.contract.scope import Scope
from homeport.control.deploys.plans import LiveEndpoint
from homeport.control.fleet.owner import Owner
from homeport.state.domains import DomainRow
from homeport.state.rows import Revision


@dataclass(slots=True, kw_only=True)
class LiveApp:
    """A deployed app, or a `serve` session."""

    owner: Owner  # the deployed app, or the session
    name: str
    revision: Revision
    app_id: str = ""
    created_at: float = field(default_factory=time.time)
    endpoints: dict[str, LiveEndpoint] = field(default_factory=dict)  # by Endpoint.id
    events: asyncio.Queue[SessionEvent] | None = None  # for a session: events for its command
    untold: int = 0  # requests that were left out because its command reads too slowly

    @property
    def scope(self) -> Scope:
        """Its environment."""
        return self.owner.scope

    @property
    def ephemeral(self) -> bool:
        """True for a session, which ends with its command."""
        return self.owner.is_session


class Live:
    """All live apps, by owner; knows which app has which URL and port."""

    def __init__(self) -> None:
        self._apps: dict[Owner, LiveApp] = {}
        self.claims: dict[str, LiveApp] = {}  # revisions that are being brought up, by id

    def get(self, owner: Owner) -> LiveApp | None:
        """Return the owner's live app; None if it has none."""
        return self._apps.get(owner)

    def add(self, app: LiveApp) -> None:
        """Add a live app; it replaces the owner's earlier one."""
        self._apps[app.owner] = app

    def put(self, owner: Owner, app: LiveApp | None) -> None:
        """Set the owner's live app; None removes it."""
        if app is None:
            self._apps.pop(owner, None)
        else:
            self._apps[owner] = app

    def remove(self, owner: Owner) -> LiveApp | None:
        """Remove the owner's live app."""
        return self._apps.pop(owner, None)

    def all(self) -> list[LiveApp]:
        """Return all live apps, the newest first."""
        return sorted(self._apps.values(), key=lambda app: -app.created_at)

    def of(self, scope: Scope) -> list[LiveApp]:
        """Return the live apps of an environment, the newest first."""
        return [app for app in self.all() if app.scope == scope]

    def versions(self) -> dict[str, int]:
        """Return the version of each revision that serves, by its id; 0 for a session's."""
        return {app.revision.id: app.revision.version for app in self._apps.values()}

    def owner_of(self, endpoint: str) -> LiveApp | None:
        """Return the live app that has this endpoint; None if none has it."""
        return next((app for app in self._apps.values() if endpoint in app.endpoints), None)

    def retries_of(self, endpoint: str) -> str | None:
        """Return the retries of the function behind an endpoint, as text; None if no live app has it."""
        app = self.owner_of(endpoint)
        return app.endpoints[endpoint].endpoint.retries if app is not None else None

    def check_shared(
        self,
        owner: Owner,
        plan: Mapping[str, LiveEndpoint],
        attached: Iterable[DomainRow],
    ) -> None:
        """Raise for a new domain that has a host in common with a domain of another workspace, by a wildcard.

        The workspace that has `*.example.com` would lose `login.example.com`. `attached` are all attached
        domains, also of stopped apps.
        """
        current = self._apps.get(owner)
        fresh = _hosts(plan) - (_hosts(current.endpoints) if current else set())
        if not fresh:
            return
        theirs = self.hosts_of_others(owner.scope.workspace, attached)
        for domain in sorted(fresh):
            if hosts.overlaps(domain, theirs):
                raise shared(domain, where=_where(plan, domain))

    def hosts_of_others(self, workspace: str, attached: Iterable[DomainRow]) -> set[str]:
        """Return the hosts of all other workspaces, with those attached domains that are theirs."""
        apps = (*self._apps.values(), *self.claims.values())
        others = {row.domain for row in attached if row.scope.workspace != workspace}
        return others.union(*(_hosts(a.endpoints) for a in apps if a.scope.workspace != workspace))

    def claim(
        self,
        revision: Revision,
        owner: Owner,
        plan: Mapping[str, LiveEndpoint],
        *,
        attached: Callable[[str], DomainRow | None],
        own_ports: bool = False,
    ) -> None:
        """Reserve a revision's URLs and ports while it is brought up.

        `attached` returns the row of an attached domain, whose app may be stopped. With `own_ports` each container
        has all ports for itself. Raises if a deployed app would lose a URL, or if two apps want the same port.
        """
        planned_hosts = _hosts(plan)
        for host in sorted(planned_hosts):
            row = attached(host)
            if row is not None and (row.scope, row.app) != (owner.scope, revision.app):
                where = _where(plan, host)
                raise domain_taken(host, owner.scope, row.scope, row.app, row.tag, where=where)
        claims = [claim for claim in self.claims.values() if claim.owner != owner]
        for app in (*self._apps.values(), *claims):
            if app.owner == owner:
                continue
            # A session takes the URLs of another session, except a domain of another workspace.
            same = app.scope.workspace == owner.scope.workspace
            if not (app.ephemeral and owner.is_session and same):
                for host in sorted(planned_hosts & _hosts(app.endpoints)):
                    raise LabelTaken(
                        f"the URL `{host}` belongs to {_shown(app, owner)}",
                        where=_where(plan, host),
                        hint="choose another `label=` or another app name, or stop "
                        + _stop(app, owner),
                    )
            ports = {port for spec in app.revision.manifest.functions for port in spec.ports}
            for spec in revision.manifest.functions:
                if not own_ports and (both := ports.intersection(spec.ports)):
                    raise PortTaken(
                        f"port {min(both)} belongs to a `web_server` of {_shown(app, owner)}",
                        where=spec.where,
                        hint="choose another port for one of them",
                    )
        self.claims[revision.id] = LiveApp(
            owner=owner, name=revision.app, revision=revision, endpoints=dict(plan)
        )


def domain_taken(
    domain: str, scope: Scope, theirs: Scope, app: str, tag: str, *, where: str = ""
) -> LabelTaken:
    """Return the error for a user of `scope` who wants a domain of `theirs`; it reveals nothing of another
    workspace.
    """
    if theirs.workspace != scope.workspace:
        return LabelTaken(f"the domain `{domain}` belongs to another workspace", where=where)
    at, option = "", ""
    if theirs != scope:
        at, option = f" in the environment `{theirs.environment}`", f" -e {theirs.environment}"
    return LabelTaken(
        f"the domain `{domain}` belongs to `{tag}` of the app `{app}`{at}",
        where=where,
        hint=f"`homeport domain remove {domain}{option}`, or remove it from that app's `custom_domains`",
    )


def shared(domain: str, *, where: str = "") -> LabelTaken:
    """Return the error for a domain that has a host in common with one of another workspace."""
    return LabelTaken(
        f"the domain `{domain}` has a host in common with a domain of another workspace",
        where=where,
        hint="a wildcard such as `*.example.com` and the domains below it belong to one workspace",
    )


def _shown(other: LiveApp, owner: Owner) -> str:
    """Return the description of another app that an app's owner may see."""
    if other.scope.workspace != owner.scope.workspace:
        return "another workspace"
    if other.scope == owner.scope:
        return f"the app `{other.name}`"
    return f"the app `{other.name}` of the environment `{other.scope.environment}`"


def _stop(other: LiveApp, owner: Owner) -> str:
    """Return how an app's owner stops another app."""
    if other.scope.workspace != owner.scope.workspace:
        return "the other app"
    option = "" if other.scope == owner.scope else f" -e {other.scope.environment}"
    return f"it with `homeport app stop {other.name}{option}`"


def _hosts(endpoints: Mapping[str, LiveEndpoint]) -> set[str]:
    return {host for live in endpoints.values() for host in live.endpoint.hosts}


def _where(planned: Mapping[str, LiveEndpoint], host: str) -> str:
    return next((live.tag for live in planned.values() if host in live.endpoint.hosts), "")
