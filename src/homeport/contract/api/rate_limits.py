"""Rate limits of endpoints."""

from homeport.contract.dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """How many requests an endpoint takes; more get 429. The URLs of its versions share it."""

    app: str
    tag: str  # a function, or `Class.method`
    rate: str  # `10/s` or `600/m`


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimitList:
    """The rate limits of an environment."""

    limits: tuple[RateLimit, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRateLimit:
    """A rate limit to set, in the place of an earlier one."""

    app: str
    rate: str
    tag: str = ""  # empty: of the app's only URL
