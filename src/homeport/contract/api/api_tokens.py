"""Tokens of the API, and who a caller is."""

from dataclasses import field

from homeport.contract.dataclass import dataclass
from homeport.contract.permissions import Permission


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiToken:
    """A token of the API, without its secret."""

    id: str  # `ak-…`
    workspace: str = "main"  # that it opens
    name: str
    user: str  # whose it is; empty: nobody in particular
    scopes: tuple[Permission, ...]
    environments: tuple[str, ...]  # empty: all of them
    created_at: float
    expires_at: float | None = None  # null: never
    used_at: float | None = None  # to the minute; null: not yet


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiTokenList:
    """Every token of the API."""

    tokens: tuple[ApiToken, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewApiToken:
    """A token of the API to create."""

    name: str = ""
    user: str = ""  # empty: the caller's own
    scopes: tuple[Permission, ...]
    environments: tuple[str, ...] = ()  # empty: all of them
    workspace: str = ""  # another one than the caller's; only for the server's admin
    expires_s: float | None = None  # seconds from now; null: never


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiTokenSecret:
    """A token that was created, with what opens the API, which is shown this once."""

    token: ApiToken
    secret: str = field(repr=False)  # `ak-….as-…`, the value for HOMEPORT_TOKEN


@dataclass(frozen=True, slots=True, kw_only=True)
class DeletedTokens:
    """The tokens that were deleted, by their ids."""

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who the caller is, and what the caller may do."""

    by: str  # `socket`: the server's own user; `token`
    user: str  # empty: the server's own user, or the token of the settings
    token: ApiToken | None  # null: the caller has none, or the one of the settings
    permissions: tuple[Permission, ...]
    environments: tuple[str, ...]  # empty: all of them
