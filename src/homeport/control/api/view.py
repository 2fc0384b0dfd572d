"""What is going on, as the API tells it.

The objects, by name:

Status
: `pid`, `version`, `home`, `host`, `http_port`, `domain`, `workspace`, `settings` (all but
  secrets), `ingress_pid`, `kept` (it runs in the background), `started_at`, `database` (where the rows are,
  without a password), `trouble` (why the database cannot be read now; else empty), `apps: [AppStatus]`.

AppStatus
: `name`, `app_id`, `state` (`deployed`, `serving`, `stopped`, or `broken`: it cannot be served again
  after a restart, and is tried again), `reason` (of `broken`), `version`, `created_at`, `stopped_at`,
  `endpoints: [EndpointStatus]`, `containers: [ContainerStatus]`.

EndpointStatus
: `tag` (the function, or `Class.method`), `url`, `local_url`, `protected` (it needs a proxy token),
  `truncated` (the URL was too long and has a hash), `stolen` (it was an earlier session's), `containers`
  (their number; a class's web methods share them), `running` and `queued` (requests of this moment),
  `served`, `errors` (answered with 5xx), `cold_starts`, `failed_starts`, `p50_ms`, `p99_ms` (of the last minutes, null without requests).

ContainerStatus
: `id`, `app`, `function`, `revision`, `state` (`starting`, `ready`, `draining`, `gone`, `failed`), `pid`,
  `started_at`, `reason`.
"""

import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any

from homeport.contract import codec
from homeport.contract.container import LogLine
from homeport.contract.errors import NotFound, StorageError
from homeport.contract.roles import Node
from homeport.control.deploys.apps import Live, LiveApp, plan
from homeport.control.fleet.pools import Pools
from homeport.settings import Settings
from homeport.state import urls
from homeport.state.rows import AppRow
from homeport.state.store import Store


class Server:
    """Reads the picture; changes nothing."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        live: Live,
        pools: Pools,
        node: Node,
        *,
        ingress_pid: Callable[[], int | None],
        quantiles_ms: Callable[[str], tuple[int, int] | None],
        broken: Callable[[], Mapping[str, str]],
        kept: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._store = store
        self._live = live
        self._pools = pools
        self._node = node
        self._ingress_pid = ingress_pid
        self._quantiles_ms = quantiles_ms
        self._broken = broken
        self._kept = kept
        self._started_at = time.time()
        self._rows: list[AppRow] = []  # as they were when the database was read last
        self._trouble = ""

    async def status(self) -> dict[str, Any]:
        """The server and everything on it."""
        apps = await self.apps()
        return {
            "pid": os.getpid(),
            "version": metadata.version("homeport"),
            "home": str(self._settings.home),
            "host": self._settings.host,
            "http_port": self._settings.http_port,
            "domain": self._settings.domain,
            "workspace": self._settings.workspace,
            "settings": self._settings.told(),
            "ingress_pid": self._ingress_pid(),
            "kept": self._kept(),
            "started_at": self._started_at,
            "database": urls.shown(self._store.database.url),
            "trouble": self._trouble,
            "apps": apps,
        }

    async def apps(self) -> list[dict[str, Any]]:
        """Live apps first, then those that were stopped or cannot be restored.

        A database that cannot be read does not hide what serves; the others are as they were last.
        """
        try:
            self._rows, self._trouble = await self._store.apps(), ""
        except StorageError as error:
            self._trouble = error.message
        lively = [self._live_app(app) for app in self._live.all()]
        names = {app.name for app in self._live.all() if not app.ephemeral}
        broken = self._broken()
        others: list[dict[str, Any]] = [
            {
                "name": row.name,
                "app_id": row.app_id,
                "state": "stopped" if row.stopped_at is not None else "broken",
                "reason": "" if row.stopped_at is not None else broken.get(row.name, ""),
                "version": row.version,
                "created_at": row.created_at,
                "stopped_at": row.stopped_at,
                "endpoints": [],
                "containers": [],
            }
            for row in self._rows
            if row.name not in names
        ]
        return lively + others

    async def app(self, name: str) -> dict[str, Any]:
        """One app; a deployed one before a session of the same name. `NotFound` otherwise."""
        apps = await self.apps()
        found = [app for app in apps if app["name"] == name]
        if not found:
            known = ", ".join(f"`{app['name']}`" for app in apps) or "none"
            raise NotFound(f"No App with name '{name}' found.", hint=f"there is {known}")
        order = ("deployed", "broken", "serving", "stopped")
        return min(found, key=lambda app: order.index(app["state"]))

    async def history(self, name: str) -> list[dict[str, Any]]:
        """An app's revisions, the newest first."""
        row = await self._store.app(name)
        if row is None:
            raise NotFound(f"No App with name '{name}' found.")
        return [
            {
                "version": revision.version,
                "created_at": revision.created_at,
                "tag": revision.tag,
                "current": revision.version == row.version and row.stopped_at is None,
                "urls": {
                    each.tag: each.url
                    for each in plan(revision, self._settings, of_version=True).values()
                },
            }
            for revision in await self._store.revisions(name)
        ]

    def endpoints(self, app: LiveApp) -> list[dict[str, Any]]:
        """An app's URLs and what goes on there."""
        told = []
        containers = Counter(each["function"] for each in self.containers(app.owner))
        for live in app.endpoints.values():
            pool = self._pools.get(live.endpoint.pool)
            median, high = self._quantiles_ms(live.endpoint.id) or (None, None)
            told.append(
                {
                    "tag": live.tag,
                    "url": live.url,
                    "local_url": live.local_url,
                    "protected": live.endpoint.protected,
                    "truncated": live.truncated,
                    "stolen": live.stolen,
                    "containers": containers[live.endpoint.pool.function],
                    "running": pool.load.running if pool else 0,
                    "queued": pool.load.queued + len(pool.parked) if pool else 0,
                    "served": pool.load.served if pool else 0,
                    "errors": pool.load.errors if pool else 0,
                    "cold_starts": pool.cold_starts if pool else 0,
                    "failed_starts": pool.failed_starts if pool else 0,
                    "p50_ms": median,
                    "p99_ms": high,
                }
            )
        return told

    def containers(self, owner: str | None = None) -> list[dict[str, Any]]:
        """Every container, or those of one owner, the newest first."""
        told = []
        for container in self._node.list():
            pool = self._pools.of_container(container.id)
            if owner is not None and (pool is None or pool.owner != owner):
                continue
            told.append(
                {
                    "id": container.id,
                    "app": container.order.pool.app,
                    "function": container.order.pool.function,
                    "revision": container.order.pool.revision,
                    "state": container.state.value,
                    "pid": container.pid,
                    "started_at": container.started_at,
                    "reason": container.reason,
                }
            )
        return sorted(told, key=lambda c: -c["started_at"])

    def images(self) -> list[dict[str, Any]]:
        """Every environment of this machine, the newest first."""
        return [codec.encode(environment) for environment in self._node.environments()]

    def is_owners(self, owner: str, line: LogLine) -> bool:
        """Whether a log line is of one of the owner's containers, or of a pool that has none yet."""
        if line.container:
            return self._pools.owner_of(line.container) == owner
        named = (line.app, line.function)
        return any(p.owner == owner and (p.key.app, p.key.function) == named for p in self._pools)

    def _live_app(self, app: LiveApp) -> dict[str, Any]:
        return {
            "name": app.name,
            "app_id": app.app_id,
            "state": "serving" if app.ephemeral else "deployed",
            "reason": "",  # of `broken`: why it cannot be restored
            "version": app.revision.version,
            "created_at": app.created_at,
            "stopped_at": None,
            "endpoints": self.endpoints(app),
            "containers": self.containers(app.owner),
        }
