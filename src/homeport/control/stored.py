"""The state on disk: opens it at the start of the server, before everything that uses it.

Called by `main`; it pushes the closing of each object on `opened`.
"""

import asyncio
from contextlib import AsyncExitStack

from homeport.contract.dataclass import dataclass
from homeport.contract.sizes import MIB
from homeport.settings import Settings
from homeport.state import domains, schema, urls
from homeport.state.alerts import Alerts
from homeport.state.api_tokens import ApiTokens
from homeport.state.audit import Audit
from homeport.state.blobs import Blobs
from homeport.state.coldstarts import ColdStarts
from homeport.state.database import Database
from homeport.state.deploys import Deploys
from homeport.state.environments import Environments
from homeport.state.logs import Logs
from homeport.state.requests import Requests
from homeport.state.scope import Scoped
from homeport.state.secret_rows import SecretRows
from homeport.state.secrets import SecretBox
from homeport.state.shared import Shared
from homeport.state.store import Stores
from homeport.state.usage import Usages
from homeport.state.vault import Vault
from homeport.state.volumes import Volumes


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The objects with the state on disk."""

    logs: Logs
    store: Stores
    vault: Vault
    environments: Environments
    secrets: Scoped[SecretBox]
    volumes: Scoped[Volumes]
    blobs: Blobs
    cold_starts: ColdStarts
    alerts: Alerts
    deploys: Deploys
    requests: Requests
    usages: Usages
    shared: Shared
    api_tokens: ApiTokens
    audit: Audit
    domains: domains.Domains


async def open_state(settings: Settings, logs: Logs, opened: AsyncExitStack) -> State:
    """Open the database; this process is its only server from now on."""
    database = Database(urls.of(settings.database, settings.home))
    opened.push_async_callback(database.close)
    await asyncio.to_thread(database.claim)  # before a schema is migrated that another server uses
    await asyncio.to_thread(schema.prepare, database)
    cold_starts = ColdStarts(database)
    opened.push_async_callback(cold_starts.close)
    cold_starts.move_in(settings.home / "cold-starts")
    deploys = Deploys(database)
    await deploys.interrupt()
    requests = Requests(settings.home / "requests", settings.request_cap_mib * MIB)
    opened.callback(requests.close)
    store = Stores(database)
    vault = Vault(settings.home / "vault.key")
    alerts = Alerts(database, vault)
    await alerts.load()
    environments = Environments(database, vault.digest, slug=settings.workspace)
    await environments.load()
    secrets = Scoped(
        lambda scope: SecretBox(SecretRows(database, scope), vault, environments.seal(scope))
    )
    await asyncio.to_thread(_check_volumes, settings)
    volumes = Scoped(lambda scope: Volumes(database, settings.volumes_dir, scope=scope))
    for scope in environments.all():
        await secrets.of(scope).load()
        await volumes.of(scope).load()
    shared = Shared(database)
    await shared.open(environments.all())
    opened.push_async_callback(shared.close)
    api_tokens = ApiTokens(database)
    await api_tokens.load()
    api_tokens.open()
    opened.push_async_callback(api_tokens.close)
    audit = Audit(database, days=settings.audit_days)
    audit.open()
    opened.push_async_callback(audit.close)
    attached = domains.Domains(database)
    await attached.load()
    return State(
        logs=logs,
        store=store,
        vault=vault,
        environments=environments,
        secrets=secrets,
        volumes=volumes,
        blobs=Blobs(settings.home / "blobs"),
        cold_starts=cold_starts,
        alerts=alerts,
        deploys=deploys,
        requests=requests,
        usages=Usages(settings.home / "usage"),
        shared=shared,
        api_tokens=api_tokens,
        audit=audit,
        domains=attached,
    )


def _check_volumes(settings: Settings) -> None:
    """Raise `StorageError` if the files of volumes are elsewhere than the settings say."""
    if settings.shared_volumes:
        from homeport.link import volumes

        volumes.open_shared(settings.volumes_dir, settings.home)
    elif (settings.home / "shared-volumes.json").exists():
        from homeport.link import volumes

        volumes.check_none(settings.home)
