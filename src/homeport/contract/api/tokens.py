"""Proxy tokens."""

from dataclasses import field

from homeport.contract.dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyToken:
    """A proxy token, without its secret."""

    name: str
    token_id: str  # `wk-…`
    created_at: float
    scopes: tuple[str, ...] = ()  # `app` or `app/function`; none: all of the environment
    rate: str = ""  # such as `10/s`; empty: no limit
    expires_at: float | None = None
    used_at: float | None = None  # to the minute; none: not yet
    former_until: float | None = None  # how long the secret before the last rotation opens, too


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyTokenList:
    """Every proxy token."""

    tokens: tuple[ProxyToken, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewProxyToken:
    """A proxy token to create."""

    name: str = ""
    scopes: tuple[str, ...] = ()  # `app` or `app/function`; none: all of the environment
    rate: str = ""  # `10/s` or `600/m`; empty: no limit
    expires_s: float | None = None  # none: never


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """How a proxy token gets a new secret."""

    overlap_s: float = 0.0  # how long the secret before opens, too
    expires_s: float | None = None  # a new end of the token, from now on; none: the same as before


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyTokenSecret:
    """A proxy token that was created or rotated, with its secret, which is shown this once."""

    name: str
    token_id: str
    created_at: float
    secret: str = field(repr=False)  # `ws-…`
    former_until: float | None = None  # how long the secret before opens, too
