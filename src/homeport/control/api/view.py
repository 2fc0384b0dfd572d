"""Makes the API's answers (`contract/api`) from the parts of the control plane; changes nothing."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable

from homeport._version import __version__
from homeport.contract.api import coldstarts, deploys
from homeport.contract.api.apps import (
    AppList,
    AppState,
    AppStatus,
    CanaryState,
    EndpointStatus,
    FunctionStatus,
    History,
    Version,
)
from homeport.contract.api.containers import ContainerStatus
from homeport.contract.api.server import Status
from homeport.contract.container import Container, LogLine
from homeport.contract.errors import NotFound, StorageError
from homeport.contract.image import Environment
from homeport.contract.scope import MAIN, Scope
from homeport.contract.traffic import PoolKey
from homeport.control.deploys.apps import LiveApp
from homeport.control.deploys.deployer import Deployed, Deployer
from homeport.control.deploys.parts import Parts
from homeport.control.deploys.plans import LiveEndpoint
from homeport.control.fleet.nodes import OWN
from homeport.control.fleet.owner import Owner
from homeport.control.fleet.pool import Totals
from homeport.control.turns import in_turns
from homeport.state import urls
from homeport.state.coldstarts import ColdStart
from homeport.state.rows import AppRow

#: States of certificates; of those of an endpoint the first is shown.
_WORST = ("failed", "waiting", "ordering", "unwanted", "valid", "")
#: Which of several apps of one name is meant.
ORDER = (AppState.DEPLOYED, AppState.BROKEN, AppState.SERVING, AppState.STOPPED)


class View:
    """The present state of everything, in the types of the API; one class, because each answer is made of the others."""

    def __init__(
        self,
        parts: Parts,
        deployer: Deployer,
        *,
        ingress_pid: Callable[[], int | None],
        kept: Callable[[], tuple[bool, int | None]],
        expires_at: Callable[[Owner], float | None],
        next_runs: Callable[[Owner], dict[str, float]],
        certificate: Callable[[str], tuple[str, str]] = lambda _host: ("", ""),
    ) -> None:
        """Of a deployed app, `next_runs` returns function -> when its schedule is due next, `expires_at` when it stops.

        `certificate` returns the state of a host's certificate, and its error.
        """
        self._settings = parts.settings
        self._store = parts.store
        self.key = parts.environments.key
        self._live = parts.live
        self._plans = parts.plans
        self._pools = parts.pools
        self._nodes = parts.nodes
        self._ingress = parts.ingress
        self._deployer = deployer
        self._ingress_pid = ingress_pid
        self._kept = kept
        self._next_runs = next_runs
        self._expires_at = expires_at
        self._certificate = certificate
        self._started_at = time.time()
        self._rows: list[tuple[Scope, AppRow]] = []  # as they were when the database was read last
        self._trouble = ""

    async def status(self, sees: Callable[[Scope], bool] = lambda _scope: True) -> Status:
        """Return the server, and everything on it in the environments for which `sees` is true."""
        apps, (kept, keeper) = await self.seen(sees), self._kept()
        return Status(
            pid=os.getpid(),
            version=__version__,
            home=str(self._settings.home),
            host=self._settings.host,
            http_port=self._settings.http_port,
            https_port=None if self._settings.tls == "off" else self._settings.https_port,
            domain=self._settings.domain,
            workspace=self._settings.workspace,
            settings=self._settings.shown(),
            ingress_pid=self._ingress_pid(),
            kept=kept,
            keeper=keeper,
            started_at=self._started_at,
            database=urls.shown(self._store.database.url),
            trouble=self._trouble,
            nodes=self._states_of_nodes(),
            apps=apps.apps,
        )

    def _states_of_nodes(self) -> dict[str, str]:
        """Return the state of each machine that has joined."""
        return {
            mirror.name: mirror.state
            for mirror in self._nodes.mirrors.values()
            if mirror.name != OWN
        }

    async def apps(self, scope: Scope) -> AppList:
        """Return the apps of an environment."""
        return await self.seen(lambda app_scope: app_scope == scope)

    async def seen(self, sees: Callable[[Scope], bool]) -> AppList:
        """Return the live apps of some environments, then those that were stopped or cannot be restored.

        If the database cannot be read, live apps are listed all the same, and the others as they were last read.
        """
        await self._read()
        live = [app for app in self._live.all() if sees(app.scope)]
        stopped = [(scope, row) for scope, row in self._stopped(live) if sees(scope)]
        containers = await self._by_owner()
        apps = [
            self._live_app(app, containers.get(app.owner, ()))
            async for app in in_turns(live)
            if self._live.get(app.owner) is not None  # it may have been stopped meanwhile
        ]
        return AppList(apps=(*apps, *(self._stopped_app(*row) for row in stopped)))

    def _stopped(self, live: Iterable[LiveApp]) -> list[tuple[Scope, AppRow]]:
        """Return the rows of the apps that are not live."""
        deployed = {app.owner for app in live}
        return [
            (scope, row) for scope, row in self._rows if Owner.app(scope, row.name) not in deployed
        ]

    async def app(self, scope: Scope, name: str) -> AppStatus:
        """Return one app; a deployed one before a session of the same name. `NotFound` otherwise."""
        live, stopped = await self._named(scope, name)
        apps = []
        for app in live:
            statuses = [
                _container(container) async for container in in_turns(self._owned(app.owner))
            ]
            apps.append(self._live_app(app, _newest_first(statuses)))
        apps += [self._stopped_app(*row) for row in stopped]
        return min(apps, key=lambda app: ORDER.index(app.state))

    async def check(self, scope: Scope, name: str) -> None:
        """Raise `NotFound`, with the existing names, if there is no such app."""
        await self._named(scope, name)

    async def _named(
        self, scope: Scope, name: str
    ) -> tuple[list[LiveApp], list[tuple[Scope, AppRow]]]:
        """Return the live apps of this name, and the row if it is not live; `NotFound` if there is neither."""
        await self._read()
        live = self._live.of(scope)
        rows = [(of, row) for of, row in self._stopped(live) if of == scope]
        serving = [app for app in live if app.name == name]
        stopped = [(of, row) for of, row in rows if row.name == name]
        if not (serving or stopped):
            names = (*(app.name for app in live), *(row.name for _, row in rows))
            existing = ", ".join(f"`{other}`" for other in names) or "none"
            raise NotFound(missing(scope, name), hint=f"there is {existing}")
        return serving, stopped

    async def _read(self) -> None:
        """Read the apps' rows; if the database cannot be read, keep those that were read last."""
        try:
            self._rows, self._trouble = await self._store.apps(), ""
        except StorageError as error:
            self._trouble = error.message

    async def history(self, scope: Scope, name: str) -> History:
        """Return an app's versions, the newest first."""
        store = self._store.of(scope)
        row = await store.app(name)
        if row is None:
            raise NotFound(missing(scope, name))
        rows = self._deployer.canaries.rows.of((scope, name))
        states = {version: CanaryState(canary.state) for version, canary in rows.items()}
        return History(
            revisions=tuple(
                Version(
                    version=revision.version,
                    created_at=revision.created_at,
                    tag=revision.tag,
                    current=revision.version == row.version and row.stopped_at is None,
                    canary=states.get(revision.version),
                    urls={
                        endpoint.tag: endpoint.url
                        for endpoint in self._plans.of(revision).of_version.values()
                        if endpoint.url
                    },
                )
                for revision in await store.revisions(name)
            )
        )

    def deployed(self, deployed: Deployed) -> deploys.Deployed:
        """Return how a deploy ended."""
        app, canary = deployed.app, deployed.canary
        is_running = canary is not None and canary.state is CanaryState.RUNNING
        return deploys.Deployed(
            app=app.name,
            version=canary.version if canary and is_running else app.revision.version,
            skipped=deployed.skipped,
            endpoints=self.endpoints(app),
            canary=canary,
        )

    def endpoints(self, app: LiveApp) -> tuple[EndpointStatus, ...]:
        """Return an app's URLs and what happens there."""
        return self._endpoints(app, self.containers(app.owner))

    def _endpoints(
        self, app: LiveApp, containers: tuple[ContainerStatus, ...]
    ) -> tuple[EndpointStatus, ...]:
        counts = Counter(container.function for container in containers)
        return tuple(
            self._endpoint(live, counts[live.endpoint.pool.function])
            for live in app.endpoints.values()
        )

    def containers(self, owner: Owner) -> tuple[ContainerStatus, ...]:
        """Return the containers of one owner, the newest first."""
        return _newest_first(map(_container, self._owned(owner)))

    def _owned(self, owner: Owner) -> list[Container]:
        members = (member for pool in self._pools if pool.owner == owner for member in pool.members)
        return [
            mirror.containers[member]
            for member in members
            if (mirror := self._nodes.of(member)) is not None and member in mirror.containers
        ]

    async def containers_of(self, scope: Scope) -> tuple[ContainerStatus, ...]:
        """Return every container of an environment, the newest first."""
        return _newest_first(
            [
                _container(container)
                async for container in in_turns(self._nodes.containers())
                if container.order.within == scope
            ]
        )

    async def _by_owner(self) -> dict[Owner, tuple[ContainerStatus, ...]]:
        """Return the containers of each owner: for a list of all apps, that is one look at them."""
        by_owner: dict[Owner, list[ContainerStatus]] = {}
        async for container in in_turns(self._nodes.containers()):
            if (pool := self._pools.of_container(container.id)) is not None:
                by_owner.setdefault(pool.owner, []).append(_container(container))
        return {
            owner: _newest_first(statuses) async for owner, statuses in in_turns(by_owner.items())
        }

    async def images(self) -> tuple[Environment, ...]:
        """Return every environment of each node, the newest of each first."""
        return tuple(await self._nodes.environments())

    async def build_log(self, key: str) -> str:
        """Return the output of the build of an image's layer; `NotFound` for an unknown one."""
        if (text := await self._nodes.build_log(key)) is None:
            raise NotFound(
                f"there is no image `{key[:80]}`", hint="`homeport image list` shows them"
            )
        return text

    def is_owners(self, owner: Owner, line: LogLine) -> bool:
        """Return whether a log line comes from one of the owner's containers, or from a pool without containers."""
        if line.container:
            return self._pools.owner_of(line.container) == owner
        named = (line.app, line.function)
        return any(p.owner == owner and (p.key.app, p.key.function) == named for p in self._pools)

    def _live_app(self, app: LiveApp, containers: tuple[ContainerStatus, ...]) -> AppStatus:
        return AppStatus(
            name=app.name,
            app_id=app.app_id,
            state=AppState.SERVING if app.ephemeral else AppState.DEPLOYED,
            reason="",
            version=app.revision.version,
            created_at=app.created_at,
            stopped_at=None,
            endpoints=self._endpoints(app, containers),
            containers=containers,
            functions=self._functions(app, containers),
            expires_at=None if app.ephemeral else self._expires_at(app.owner),
            environment=app.scope.environment,
            canary=None if app.ephemeral else self._deployer.canaries.status(app.owner),
        )

    def _functions(
        self, app: LiveApp, containers: tuple[ContainerStatus, ...]
    ) -> tuple[FunctionStatus, ...]:
        """Return every function of an app's current revision."""
        counts = Counter(container.function for container in containers)
        names = [spec.name for spec in app.revision.manifest.functions]
        names += sorted(
            pool.key.function
            for pool in self._pools.of_revision(app.revision.app, app.revision.id)
            if pool.variant and not pool.key.parameters and pool.owner == app.owner
        )
        pools = [PoolKey(app.revision.app, name, app.revision.id) for name in names]
        next_runs = {} if app.ephemeral else self._next_runs(app.owner)
        return tuple(
            FunctionStatus(
                name=pool.function,
                containers=counts[pool.function],
                next_run=next_runs.get(pool.function),
                **numbers,
            )
            for pool in pools
            for numbers in [_numbers(self._pools.totals(pool))]
        )

    def _stopped_app(self, scope: Scope, row: AppRow) -> AppStatus:
        owner = Owner.app(scope, row.name)
        stopped = row.stopped_at is not None
        return AppStatus(
            name=row.name,
            app_id=row.app_id,
            state=AppState.STOPPED if stopped else AppState.BROKEN,
            reason="" if stopped else self._deployer.broken.get(owner, ""),
            version=row.version,
            created_at=row.created_at,
            stopped_at=row.stopped_at,
            endpoints=(),
            containers=(),
            expires_at=None if stopped else self._expires_at(owner),
            environment=owner.scope.environment,
            canary=self._deployer.canaries.status(owner),
        )

    def _endpoint(self, live: LiveEndpoint, containers: int) -> EndpointStatus:
        median, high = self._ingress.quantiles_ms(live.endpoint.id) or (None, None)
        certificate, error = self._certificate_of(live)
        return EndpointStatus(
            custom_domains=tuple(self._settings.url(host) for host in live.endpoint.hosts[1:]),
            certificate=certificate,
            certificate_error=error,
            tag=live.tag,
            url=live.url,
            local_url=live.local_url,
            protected=live.endpoint.protected,
            truncated=live.truncated,
            stolen=live.stolen,
            containers=containers,
            p50_ms=median,
            p99_ms=high,
            function=live.endpoint.pool.function,
            **_numbers(self._pools.totals(live.endpoint.pool)),
        )

    def _certificate_of(self, live: LiveEndpoint) -> tuple[str, str]:
        """Return the state of the certificate that is furthest from valid, of the endpoint's hosts."""
        states = [self._certificate(host) for host in live.endpoint.hosts]
        return min(states, key=lambda state: _WORST.index(state[0]), default=("", ""))


def _container(container: Container) -> ContainerStatus:
    return ContainerStatus(
        id=container.id,
        app=container.order.pool.app,
        function=container.order.pool.function,
        revision=container.order.pool.revision,
        state=container.state,
        pid=container.pid,
        started_at=container.started_at,
        reason=container.reason,
        node=container.node,
        gpus=container.order.devices,
    )


def _newest_first(statuses: Iterable[ContainerStatus]) -> tuple[ContainerStatus, ...]:
    return tuple(sorted(statuses, key=lambda container: -container.started_at))


def missing(scope: Scope, name: str) -> str:
    """Return the message for an app that does not exist."""
    where = "" if scope == MAIN else f" in the '{scope.environment}' environment"
    return f"No App with name '{name}' found{where}."


def _numbers(totals: Totals) -> dict[str, int]:
    names = ("running", "queued", "served", "errors", "cold_starts", "failed_starts")
    return {name: getattr(totals, name) for name in names}


def cold_start(start: ColdStart) -> coldstarts.ColdStart:
    """Return a container's start as the API has it."""
    return coldstarts.ColdStart(
        at=start.at,
        app=start.app,
        function=start.function,
        container=start.container,
        revision=start.revision,
        origin=start.origin,
        why_fresh=start.why_fresh,
        failed=start.failed,
        timings_ms=start.timings_ms,
        imports_ms=start.imports_ms,
        total_ms=round(sum(start.timings_ms.values()), 1),
    )
