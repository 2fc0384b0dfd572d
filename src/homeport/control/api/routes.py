"""The control plane's API: every noun's routes in one app.

docs/reference/api.md is generated from the rules below, the signatures and docstrings of the handlers, and
the types in `contract/api`. The rules:

- JSON over HTTP, on the Unix socket `control.sock` in the home's `run/`. With a token, `Authorization: Bearer <token>`, also
  by HTTPS at the domain itself (`https://apps.example.com/v1/…`), and with `HOMEPORT_API_PORT` by plain HTTP on loopback.
- Times are in seconds since the epoch.
- An error has the status of its kind (see [errors](errors.md)) and the body [`Refusal`](#refusal). The kind
  `Bug`, with status 500, is a fault of homeport's own.
- `/v1/programs` is a WebSocket that runs programs in containers, and is not listed here: control/api/programs.py says it.
- A stream is one JSON object a line (`application/x-ndjson`). If a stream fails, its last line is
  [`Error`](#error).
"""

from collections.abc import Callable

from homeport.contract.dataclass import dataclass
from homeport.contract.scope import Scope
from homeport.control.api.alerts import Alerts
from homeport.control.api.api_tokens import ApiTokens
from homeport.control.api.apps import Apps
from homeport.control.api.audit import AuditLog
from homeport.control.api.blobs import Blobs
from homeport.control.api.calls import Calls
from homeport.control.api.captures import Captors, Captures
from homeport.control.api.certificates import Certificates
from homeport.control.api.containers import Containers
from homeport.control.api.dashboard import DashboardLogins, Dashboards
from homeport.control.api.deploys import Deploys
from homeport.control.api.domains import CustomDomains
from homeport.control.api.environments import Environments, Workspaces
from homeport.control.api.findings import Findings
from homeport.control.api.functions import Functions
from homeport.control.api.images import Images
from homeport.control.api.logins import Logins
from homeport.control.api.logs import Logs
from homeport.control.api.nodes import Nodes
from homeport.control.api.programs import PATH, Programs
from homeport.control.api.rate_limits import RateLimits
from homeport.control.api.requests import Requests
from homeport.control.api.router import Router
from homeport.control.api.secrets import Secrets
from homeport.control.api.series import OverTime
from homeport.control.api.server import Server
from homeport.control.api.sessions import Sessions
from homeport.control.api.shared import Dicts, Queues
from homeport.control.api.spawned import SpawnList, Spawns
from homeport.control.api.tokens import Tokens
from homeport.control.api.tunnels import Tunnels
from homeport.control.api.view import View
from homeport.control.api.volumes import Volumes
from homeport.control.calls.spawned import Spawned
from homeport.control.certificates.keeper import Keeper
from homeport.control.deploys.capturing import Captor
from homeport.control.deploys.dashboard import Dashboard
from homeport.control.deploys.deployer import Deployer
from homeport.control.deploys.domains import Domains
from homeport.control.deploys.expiring import Expiring
from homeport.control.deploys.parts import Parts
from homeport.control.deploys.scaling import Scaler
from homeport.control.deploys.variants import Variants
from homeport.control.deploys.worlds import Worlds
from homeport.control.fleet import census
from homeport.control.fleet import tunnels as fleet
from homeport.control.fleet.machines import Machines
from homeport.control.reporting.alerts.watcher import Watcher
from homeport.state import (
    alerts,
    api_tokens,
    audit,
    coldstarts,
    deploys,
    logs,
    rate_limits,
    requests,
    shared,
    tokens,
)
from homeport.state.traffic import Traffic
from homeport.state.usage import Usages
from homeport.supervised import Tasks

#: In the order of the reference.
NOUNS = (
    Server, Findings, Apps, Functions, Calls, Deploys, Sessions, Logs, Requests, Captures, Captors, OverTime, Alerts, Containers, Images, Blobs, Volumes, SpawnList, Spawns,
    Dicts, Queues, Tunnels, Secrets,
    Tokens, RateLimits, ApiTokens, Dashboards, DashboardLogins, AuditLog, Certificates, CustomDomains, Environments, Workspaces, Nodes,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """The objects that the API uses, beside those of a deploy."""

    view: View
    deployer: Deployer
    expiring: Expiring
    logs: logs.Logs
    cold_starts: coldstarts.ColdStarts
    deploys: deploys.Deploys
    requests: requests.Requests
    usages: Usages
    shared: shared.Shared
    spawned: Spawned
    tunnels: fleet.Tunnels
    scaler: Scaler
    variants: Variants
    tokens: tokens.Tokens
    rate_limits: rate_limits.RateLimits
    api_tokens: api_tokens.ApiTokens
    audit: audit.Audit
    keeper: Keeper | None  # of certificates; None: there is no HTTPS, or no certificate is ordered
    domains: Domains
    captor: Captor
    alerts: alerts.Alerts
    watcher: Watcher
    worlds: Worlds
    machines: Machines
    keep: Callable[[], None]  # let the server outlive its command
    shutdown: Callable[[], None]
    stop_container: Callable[[Scope, str], bool]  # False for an unknown one


class Api:
    """The routes of the control plane, for commands and for containers."""

    def __init__(self, parts: Parts, backend: Backend) -> None:
        self._tasks = Tasks()
        view, deployer, tasks = backend.view, backend.deployer, self._tasks
        #: The nouns that containers may use.
        functions = Functions(parts, backend.scaler, backend.variants)
        self._shared = (
            Spawns(backend.spawned, backend.stop_container, parts.nodes.holder_of),
            Dicts(backend.shared.dicts),
            Queues(backend.shared.queues),
        )
        tunnels = Tunnels(backend.tunnels)
        logins = Logins()
        dashboard_logins = DashboardLogins(logins, backend.api_tokens)
        captors = Captors(backend.captor)
        self._inside = (*self._shared, functions, tunnels, dashboard_logins, captors)
        self._calls = Calls(parts.settings, parts.environments.key, parts.endpoints.holder)
        self._environments, self._audit = parts.environments, backend.audit
        self._programs = Programs(parts)
        self._over_time = OverTime(
            Traffic(backend.requests), backend.usages, parts.store, backend.deploys
        )
        nodes = Nodes(backend.machines, parts.nodes)
        self._nouns = (
            _server(view, parts, backend),
            Findings(view, parts, backend.alerts, nodes.machines, backend.machines),
            Apps(view, deployer, backend.cold_starts, backend.deploys, parts),
            functions,
            self._calls,
            Deploys(view, deployer, backend.logs, tasks, backend.expiring, backend.deploys),
            Sessions(view, deployer, backend.logs, tasks, backend.spawned, parts.pools),
            Logs(view, backend.logs),
            Requests(backend.requests, parts.store, backend.cold_starts, backend.logs),
            Captures(backend.captor, parts.live),
            captors,
            self._over_time,
            Alerts(backend.alerts, backend.watcher),
            Containers(view, backend.stop_container),
            Images(view, deployer),
            Blobs(parts.blobs),
            Volumes(parts.volumes, deployer.mounts.users),
            SpawnList(backend.spawned),
            *self._shared,
            tunnels,
            Secrets(parts.secrets),
            Tokens(backend.tokens),
            RateLimits(backend.rate_limits, parts.live),
            ApiTokens(backend.api_tokens, parts.environments),
            Dashboards(Dashboard(deployer), logins, backend.api_tokens),
            dashboard_logins,
            AuditLog(backend.audit, parts.environments),
            Certificates(backend.keeper, parts.endpoints),
            CustomDomains(backend.domains),
            Environments(parts.environments, backend.worlds),
            Workspaces(parts.environments, backend.worlds),
            nodes,
        )

    def app(self) -> Router:
        """Return the ASGI app; it answers requests that a guard of `access` lets through."""
        sockets = {PATH: self._programs.serve}
        return Router(self._nouns, self._environments, self._audit, sockets)

    def inside(self) -> Router:
        """Return the app for containers, which has few of the routes."""
        return Router(self._inside, self._environments, self._audit)

    async def close(self) -> None:
        """End the streams of events."""
        self._over_time.close()
        await self._tasks.close()
        await self._calls.close()


def _server(view: View, parts: Parts, backend: Backend) -> Server:
    return Server(
        view,
        nodes=lambda: census.of(parts.nodes),
        alone=lambda: parts.environments.is_alone,
        keep=backend.keep,
        shutdown=backend.shutdown,
    )
