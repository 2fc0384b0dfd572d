"""Proxy tokens."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyToken:
    """A proxy token, without its secret."""

    name: str
    token_id: str  # `wk-…`
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyTokenList:
    """Every proxy token."""

    tokens: tuple[ProxyToken, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewProxyToken:
    """A proxy token to create."""

    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyTokenSecret:
    """A proxy token that was created, with its secret, which is shown this once."""

    name: str
    token_id: str
    created_at: float
    secret: str = field(repr=False)  # `ws-…`
