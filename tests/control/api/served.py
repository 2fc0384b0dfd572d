"""The API of a plane: in this process, or on a real Unix socket."""

import contextlib
import functools
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from homeport.contract.scope import Scope
from homeport.contract.sizes import MIB
from homeport.control.api.access import OwnSocket
from homeport.control.api.listener import listening, unix_socket
from homeport.control.api.routes import Api, Backend
from homeport.control.api.view import View
from homeport.control.calls.spawned import Spawned
from homeport.control.certificates.acme.source import Acme
from homeport.control.certificates.keeper import Keeper
from homeport.control.certificates.resolving import Resolver
from homeport.control.certificates.situation import Kind
from homeport.control.deploys import capturing, certified
from homeport.control.deploys.domains import Domains
from homeport.control.deploys.expiring import Expiring
from homeport.control.deploys.scaling import Scaler
from homeport.control.deploys.variants import Variants
from homeport.control.deploys.worlds import Worlds
from homeport.control.fleet.machines import Machines
from homeport.control.fleet.tunnels import Tunnels
from homeport.control.reporting.alerts.watcher import Watcher
from homeport.state.alerts import Alerts
from homeport.state.api_tokens import ApiTokens
from homeport.state.audit import Audit
from homeport.state.calls import Calls
from homeport.state.certificates import Certificates
from homeport.state.coldstarts import ColdStarts
from homeport.state.deploys import Deploys
from homeport.state.expiries import Expiries
from homeport.state.logs import Logs
from homeport.state.nodes import Nodes as JoinedNodes
from homeport.state.rate_limits import RateLimits
from homeport.state.requests import Requests
from homeport.state.scaling import Scalings
from homeport.state.shared import Shared
from homeport.state.tokens import Tokens
from homeport.state.usage import Usages
from tests.control.plane import Plane


@dataclass
class Server:
    """The parts of a plane's API, and a record of the calls to the server itself."""

    api: Api
    logs: Logs
    cold_starts: ColdStarts
    requests: Requests
    usages: Usages
    tunnels: Tunnels
    api_tokens: ApiTokens
    audit: Audit
    machines: Machines
    asked: list[str] = field(default_factory=list)


class NoDns(Resolver):
    """A resolver that asks nobody."""

    async def addresses(self, name: str) -> tuple[str, ...] | None:
        return ()


def keeper_of(plane: Plane) -> Keeper:
    """Return a keeper whose loop does not run, so that it orders nothing."""
    acme = Acme(plane.settings, plane.ingress, NoDns())
    keeper = Keeper(Certificates(plane.database), plane.ingress, acme)
    keeper.wants(lambda: {"a.test": Kind.MAIN, **certified.wanted(plane.parts.endpoints)})
    return keeper


def view_of(plane: Plane) -> View:
    """Return what the API tells of a plane."""
    return View(
        plane.parts,
        plane.deployer,
        ingress_pid=lambda: 1,
        kept=lambda: (True, None),
        next_runs=lambda _app: {},
        expires_at=lambda _app: None,
    )


def stop_container(plane: Plane, scope: Scope, container: str) -> bool:
    """Stop a container of an environment; return False for an unknown one."""
    ids = {each.id for each in plane.nodes.containers() if each.order.within == scope}
    if container in ids:
        plane.nodes.stop(container)
    return container in ids


def requests_of(plane: Plane, home: Path) -> Requests:
    """Record the requests of a plane."""
    requests = Requests(home / "requests", MIB)
    places, revisions = plane.parts.endpoints.place, plane.parts.pools.revision_of
    plane.ingress.keep(lambda lines: requests.add(lines, places, revisions), tuple)
    return requests


def spawned_of(plane: Plane, home: Path) -> Spawned:
    """Return the spawned calls of a plane."""
    calls = Calls(plane.database, home / "calls")
    return Spawned(calls, plane.parts.live.retries_of, key=plane.environments.key)


@contextlib.asynccontextmanager
async def api_of(plane: Plane, home: Path):
    """Return the plane's API as an app, without a socket."""
    asked: list[str] = []
    logs = Logs(home / "logs", 1024 * 1024)
    cold_starts = ColdStarts(plane.database)
    requests = requests_of(plane, home)
    shared = Shared(plane.database)
    await shared.open()
    expiring = Expiring(Expiries(plane.database), plane.deployer)
    proxy_tokens, limits = (k(plane.database, plane.ingress) for k in (Tokens, RateLimits))
    tokens, audit = ApiTokens(plane.database), Audit(plane.database, days=90)
    usages, alerts = Usages(home / "usage"), Alerts(plane.database, plane.vault)
    watcher = Watcher(
        alerts, requests, usages, home=home, certificates=list, canaries=lambda _scope: []
    )
    kept = (shared, logs, proxy_tokens, limits, tokens, expiring.expiries, cold_starts, requests)
    backend = Backend(
        view=view_of(plane),
        deployer=plane.deployer,
        logs=logs,
        cold_starts=cold_starts,
        alerts=alerts,
        watcher=watcher,
        deploys=Deploys(plane.database),
        requests=requests,
        usages=usages,
        shared=shared,
        spawned=spawned_of(plane, home),
        tunnels=(tunnels := Tunnels(plane.ingress, "localhost", lambda: ("http", 80))),
        scaler=Scaler(plane.parts, Scalings(plane.database)),
        variants=Variants(plane.parts, plane.mounts),
        api_tokens=tokens,
        audit=audit,
        tokens=proxy_tokens,
        rate_limits=limits,
        expiring=expiring,
        captor=(captor := capturing.new_captor(plane.parts, plane.deployer)),
        keeper=keeper_of(plane),
        domains=Domains(plane.parts, plane.deployer, NoDns()),
        worlds=Worlds(plane.parts, plane.deployer, *kept, usages, captor.kept, alerts),
        machines=(
            machines := Machines(home, plane.nodes, JoinedNodes(plane.database), plane.ingress)
        ),
        keep=lambda: asked.append("keep"),
        shutdown=lambda: asked.append("shutdown"),
        stop_container=functools.partial(stop_container, plane),
    )
    api = Api(plane.parts, backend)
    yield Server(api, logs, cold_starts, requests, usages, tunnels, tokens, audit, machines, asked)
    for close in (machines.close, tunnels.end, api.close, cold_starts.close, shared.close):
        await close()
    for files in (logs, requests):
        files.close()


@contextlib.asynccontextmanager
async def client(plane: Plane, home: Path):
    """An HTTP client of the API without a socket, so that it also works on a virtual clock."""
    async with api_of(plane, home) as server:
        transport = httpx.ASGITransport(OwnSocket(server.api.app()), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://homeport") as http:
            http.server = server  # type: ignore[attr-defined]
            yield http


@contextlib.asynccontextmanager
async def on_a_socket(plane: Plane, home: Path):
    """Serve the API on the plane's socket, with the server that main.py uses."""
    plane.settings.control_socket.parent.mkdir(parents=True, exist_ok=True)
    listener = unix_socket(plane.settings.control_socket)
    async with (
        api_of(plane, home) as server,
        listening(OwnSocket(server.api.app()), listener),
    ):
        yield server
