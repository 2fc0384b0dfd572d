"""The rows that the store returns, as frozen objects."""

import json

from sqlalchemy import RowMapping

from homeport.contract import codec
from homeport.contract.dataclass import dataclass
from homeport.contract.errors import StorageError
from homeport.contract.manifest import Manifest
from homeport.contract.scope import MAIN, Scope
from homeport.state.scope import Placed


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """One immutable deploy."""

    id: str
    app: str
    version: int  # 1, 2, …; 0: a session's
    manifest: Manifest
    fingerprint: str = ""
    tag: str = ""
    created_at: float = 0.0
    scope: Scope = MAIN


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRow:
    """A revision without its manifest."""

    app: str
    version: int
    tag: str
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AppRow:
    """An app that is or was deployed."""

    name: str
    app_id: str
    version: int
    created_at: float
    stopped_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """An app's rows before a change, for `Store.put_back`."""

    app: AppRow | None
    endpoints: dict[str, tuple[str, int]]  # of every app: id -> app, local port


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretRow:
    """A secret without its values."""

    name: str
    keys: tuple[str, ...]
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRow:
    """A proxy token without its secret."""

    id: str
    name: str
    secret_sha256: str
    created_at: float
    scopes: str = ""  # `app` or `app/function`, by commas; empty: all of the environment
    rate: str = ""  # such as `10/s`; empty: no limit
    expires_at: float | None = None  # None: never
    used_at: float | None = None  # None: not yet
    former_sha256: str = ""  # of the secret before the last rotation; empty: there is none
    former_until: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiTokenRow:
    """A token of the API. Its secret is not kept."""

    id: str
    workspace: str
    name: str
    user: str
    scopes: str  # separated by commas
    environments: str  # separated by commas; empty: all of the workspace
    secret_sha256: str
    created_at: float
    expires_at: float | None  # None: never
    used_at: float | None  # None: not yet


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceRow:
    """A workspace."""

    name: str
    slug: str  # that its URLs begin with
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentRow(Placed):
    """An environment of a workspace."""

    suffix: str  # of the workspace in URLs; empty: none
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectRow:
    """A dict, a queue, or a volume, whose files are in the home."""

    id: str
    name: str | None  # None: ephemeral
    created_at: float


def revision(row: RowMapping, scope: Scope) -> Revision:
    """Return the revision in a row of that environment; `StorageError` if its manifest cannot be read."""
    try:
        manifest = codec.loads(Manifest, row["manifest"])
        return Revision(**{**row, "manifest": manifest, "scope": scope})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        why = f"{type(error).__name__}: {error}"
        raise StorageError(
            f"version v{row['version']} of the app `{row['app']}` cannot be read: {why}",
            hint="deploy the app again",
        ) from None


def secret(row: RowMapping) -> SecretRow:
    """Return the secret in a row; without keys if these are damaged, so that a list works."""
    try:
        keys = json.loads(row["keys"])
    except (ValueError, TypeError):
        keys = ()
    return SecretRow(
        name=row["name"],
        keys=tuple(map(str, keys)) if isinstance(keys, list) else (),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )
