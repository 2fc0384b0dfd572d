"""A whole control plane without HAProxy and processes: everything real but the two roles and the clock."""

import asyncio
import contextlib
import dataclasses
import secrets
from pathlib import Path

from homeport.contract.container import StartOrder
from homeport.contract.errors import StorageError
from homeport.contract.manifest import FunctionSpec, Manifest, SecretRef, WebKind, WebMethod
from homeport.control.deploys.apps import Live
from homeport.control.deploys.deployer import Deployer
from homeport.control.deploys.endpoints import Endpoints
from homeport.control.deploys.parts import Parts
from homeport.control.deploys.plans import Plans
from homeport.control.deploys.rollout import Rollout
from homeport.control.fleet.owner import Kind
from homeport.settings import Settings
from homeport.state.blobs import Blobs
from homeport.state.database import Database
from homeport.state.domains import Domains
from homeport.state.environments import Environments
from homeport.state.scope import MAIN, Scope, Scoped
from homeport.state.secret_rows import SecretRows
from homeport.state.secrets import SecretBox
from homeport.state.store import Store, Stores
from homeport.state.sweeper import Sweeper
from homeport.state.vault import KEY_BYTES, Vault
from homeport.state.volumes import Volumes
from tests import databases
from tests.control.fleet.house import Fleet
from tests.fakes import FakeNode
from tests.in_place import InPlace
from tests.waiting import is_virtual

#: The key of the environment MAIN.
KEY = "environment-main-main"
KEY_OF_VAULTS = secrets.token_bytes(KEY_BYTES).hex()
#: What changes the store.
WRITES = (
    "add_revision",
    "remove_revision",
    "forget_unserved",
    "serve_revision",
    "put_back",
    "stop_app",
)


class RecordedStores(Stores):
    """Stores whose writes are on record, and fail where a test says so."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.calls: list[tuple[str, str]] = []
        self.fault = lambda _call, _what, _when: None

    def of(self, scope):
        return RecordedStore(self, scope)


class RecordedSecrets(SecretRows):
    """Secrets whose writes are among those of the stores, as `put_secret`."""

    def __init__(self, every: RecordedStores, scope: Scope) -> None:
        super().__init__(every.database, scope)
        self.every = every

    async def put(self, name, sealed, keys, *, inline):
        self.every.calls.append(("put_secret", ""))
        self.every.fault("put_secret", "", "before")
        await super().put(name, sealed, keys, inline=inline)
        self.every.fault("put_secret", "", "after")


class RecordedStore(Store):
    """One of them."""

    def __init__(self, every: RecordedStores, scope: Scope) -> None:
        super().__init__(every.database, scope)
        self.every = every

    @property
    def calls(self):
        """Everybody's."""
        return self.every.calls

    def __getattribute__(self, name):
        method = super().__getattribute__(name)
        if name not in WRITES:
            return method

        async def recorded(*args, **kwargs):
            self.every.calls.append((name, ""))
            self.every.fault(name, "", "before")
            value = await method(*args, **kwargs)
            self.every.fault(name, "", "after")
            return value

        return recorded


def a_vault(home: Path) -> Vault:
    """Return the vault of a home; all homes have one key, for a new one is written through to the disk."""
    file = home / "vault.key"
    if not file.exists():
        file.write_text(KEY_OF_VAULTS)
    return Vault(file)


def function(name: str, *, port: int | None = None, secret: str = "", **rest) -> FunctionSpec:
    kind = WebKind.FASTAPI if port is None else WebKind.WEB_SERVER
    web = WebMethod(tag=name, attribute=name, kind=kind, port=port)
    refs = (SecretRef(values={"KEY": secret}),) if secret else ()
    return FunctionSpec(name=name, module="script", qualname=name, web=(web,), secrets=refs, **rest)


def manifest(*functions: FunctionSpec, app: str = "shop", script: str = "") -> Manifest:
    return Manifest(app_name=app, functions=functions, script=script)


class Plane(Fleet):
    """The parts that `control/main.py` puts together, with fakes for the two roles."""

    def __init__(self, home: Path, node: FakeNode | None = None, *others: FakeNode) -> None:
        self.settings = Settings(home=home)
        # A virtual clock would run ahead of threads.
        self.database = databases.opened(home, InPlace())
        self.stores = RecordedStores(self.database)
        self.store = self.stores.of(MAIN)
        self.blobs = Blobs(home / "blobs")
        self.vault = a_vault(home)
        # Keys that a test can write down: KEY is that of MAIN.
        self.environments = Environments(
            self.database, lambda text: text.replace("\0", "-"), slug=self.settings.workspace
        )
        self.secrets = Scoped(
            lambda scope: SecretBox(
                RecordedSecrets(self.stores, scope), self.vault, self.environments.seal(scope)
            )
        )
        self.secret_box = self.secrets.of(MAIN)
        start_s = 0.2 if is_virtual() else 0.01  # a test in real time need not wait for it
        nodes = [node or FakeNode(start_s), *others]
        super().__init__(nodes, self.secrets, key=self.environments.key)
        self.every_volumes = Scoped(
            lambda scope: Volumes(self.database, home / "volumes", scope=scope)
        )
        self.volumes = self.every_volumes.of(MAIN)
        self.domains = Domains(self.database)
        self.parts = Parts(
            settings=self.settings,
            store=self.stores,
            environments=self.environments,
            secrets=self.secrets,
            volumes=self.every_volumes,
            domains=self.domains,
            blobs=self.blobs,
            pools=self.pools,
            nodes=self.nodes,
            ingress=self.ingress,
            reconciler=self.reconciler,
            live=Live(),
            plans=Plans(self.settings, self.environments, attached=self.domains.of),
            endpoints=Endpoints(self.ingress),
        )
        self.rollout = Rollout(self.parts)
        self.sweeper = Sweeper(self.stores, self.secrets, self.blobs, self.rollout.trees.in_use)
        self.deployer = Deployer(self.parts, self.rollout, self.sweeper)
        self.mounts = self.deployer.mounts

    async def __aenter__(self):
        await self.environments.load()
        await self.secret_box.load()
        await self.domains.load()
        return await super().__aenter__()

    async def __aexit__(self, *_args):
        await self.deployer.close()
        await self.sweeper.close()
        await self.rollout.close()
        await super().__aexit__()
        self.database.dispose()

    async def deploy(
        self, wanted: Manifest, strategy: str = "rolling", then=None, scope: Scope = MAIN
    ):
        return await self.deployer.deploy(
            scope,
            wanted.app_name,
            wanted,
            tag="",
            strategy=strategy,
            say=lambda _text: None,
            drain_s=1.0,
            then=then,
        )

    async def roll_back(self, name: str = "shop", version: int | None = None):
        return await self.deployer.rollback(
            MAIN, name, version, strategy="rolling", say=lambda _text: None
        )

    async def visit(self, endpoint: str) -> StartOrder:
        """Send one request to an endpoint; return the order of the container that answered."""
        async with asyncio.timeout(60):
            container = await self.ingress.visit(endpoint, 0.01)
        return next(order for order in self.node.started if order.id == container)

    def calls(self) -> list[tuple[str, str]]:
        """Return every call of a role and every write to the store so far."""
        return [*self.ingress.calls, *self.node.calls, *self.stores.calls]

    async def state(self) -> dict[str, object]:
        """Return everything that a failed change must leave as it was."""
        rollout, rows = self.rollout, await self.store.apps()
        return {
            "apps": [dataclasses.asdict(row) for row in rows],
            "versions": {
                row.name: [r.id for r in await self.store.revisions(row.name)] for row in rows
            },
            "saved ports": await self.stores.local_ports(),
            "endpoints": dict(self.ingress.endpoints),
            "splits": dict(self.ingress.splits),
            "live": {
                app.owner: (app.revision.id, set(app.endpoints)) for app in self.parts.live.all()
            },
            "pools": {
                pool.key: (pool.demoted, pool.floor) for pool in self.pools if not pool.retired
            },
            "trees": {path.name for path in rollout.trees.directory.glob("*")},
            "underway": list(rollout.trees.underway),
            "claims": dict(self.parts.live.claims),
            "broken": dict(self.deployer.broken),
        }

    async def check_whole(self) -> None:
        """Check that the store, the live apps and the ingress agree."""
        deployed = {
            row.name: row.version
            for row in await self.store.apps()
            if row.stopped_at is None and row.version
        }
        alive = {app.name: app for app in self.parts.live.all() if not app.ephemeral}
        assert deployed == {name: app.revision.version for name, app in alive.items()}
        for app in self.parts.live.all():
            for name, each in app.endpoints.items():
                assert self.ingress.endpoints[name] == each.endpoint
                pool = self.pools.get(each.endpoint.pool)
                assert pool is not None
                assert not pool.retired
                assert not pool.demoted
        main = {name for app in self.parts.live.all() for name in app.endpoints}
        versions = {
            name
            for name in self.ingress.endpoints
            if self.parts.endpoints.holder(name).kind is Kind.VERSION
        }
        assert main | versions == set(self.ingress.endpoints)

    @contextlib.contextmanager
    def breaking(self, call: str, what: str, when: str, error: BaseException, times: int = 1):
        """Make the next `times` such calls fail; yield the list of calls that have failed."""
        failed: list[str] = []

        def fault(name, told, moment):
            if (name, told, moment) == (call, what, when) and len(failed) < times:
                failed.append(name)
                raise error

        async def asynchronous(name, told, moment):
            fault(name, told, moment)

        roles = (self.ingress, self.node)
        before = [role.fault for role in roles]
        for role in roles:
            role.fault = asynchronous
        self.stores.fault = fault
        try:
            yield failed
        finally:
            for role, known in zip(roles, before, strict=True):
                role.fault = known
            self.stores.fault = lambda _call, _what, _when: None


DISK_FULL = StorageError("the disk is full")
