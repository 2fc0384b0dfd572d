"""Everything that a decision about certificates depends on, and the decision: values without behaviour.

`keeper` makes a Situation, a `Source` returns its Decision, mostly by `orders`.
"""

import enum
from collections.abc import Collection, Mapping, Sequence

from homeport.contract.dataclass import dataclass

WEEK_S = 7 * 86400.0


class Kind(enum.IntEnum):
    """Why a host is wanted; the smaller ones are ordered first."""

    MAIN = 0  # the URL of a deployed app, a custom domain, homeport's own domain
    SESSION = 1  # of `homeport serve`
    VERSION = 2  # of an earlier version


class Method(enum.StrEnum):
    """How the CA finds out that a host is this server's."""

    HTTP = "http-01"
    DNS = "dns-01"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of a CA. The defaults are those of Let's Encrypt (https://letsencrypt.org/docs/rate-limits/)."""

    per_domain: int = 50  # new certificates for a registered domain in 7 days
    per_set: int = 5  # certificates for exactly the same hosts in 7 days
    failures: int = 5  # failed validations of a host in an hour
    names: int = 100  # hosts of one certificate


#: A CA without limits of its own, such as a private one. Failures are counted all the same.
UNLIMITED = Limits(per_domain=10**9, per_set=10**9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The settings for orders."""

    domain: str  # homeport's own
    wildcards: bool  # certificates for `*.` can be had: by DNS-01, or from a CA of our own
    limits: Limits = Limits()
    kept_s: float = WEEK_S  # how long a certificate stays that no host needs

    @property
    def shares(self) -> bool:
        """Return whether the hosts below the domain share one wildcard; no client accepts one for a top level."""
        return self.wildcards and "." in self.domain


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A certificate that the ingress has."""

    name: str
    hosts: tuple[str, ...]
    not_before: float  # seconds since the epoch
    not_after: float
    serial: str = ""
    unwanted_since: float | None = None  # when the last of its hosts went; None: it is wanted
    renew_now: bool = False  # a user has asked for it
    foreign: bool = False  # of another source than the present one


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """The failed orders of a host since its last success."""

    failures: int
    failed_at: tuple[float, ...]  # failed validations of the last hour, the oldest first
    next_at: float  # no order before that
    retry_at: float = 0.0  # the CA has asked for no order before that; 0: it has not


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A certificate that the CA has issued in the last week."""

    hosts: tuple[str, ...]
    at: float
    renewal: bool  # for exactly the hosts of an earlier one: it does not count for a domain


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A certificate to order now."""

    name: str
    hosts: tuple[str, ...]  # empty: those in the certificate
    renewal: bool = False  # the CA has issued one for exactly these hosts before
    label: str = ""  # its name for users if it has no hosts

    def __str__(self) -> str:
        return ", ".join(self.hosts) or self.label


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """Everything that a decision depends on."""

    wanted: Mapping[str, Kind]
    held: Sequence[Held]
    tried: Mapping[str, Tried]
    issued: Sequence[Issued]
    running: Collection[str]  # names of certificates whose orders run
    now: float
    paused_until: float = 0.0  # the CA does not answer
    asked_until: float = 0.0  # the CA has asked for no order before that


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What to do now, and when to look again."""

    orders: tuple[Order, ...]
    removed: tuple[str, ...]  # certificates to remove
    unwanted: tuple[str, ...]  # certificates that no host needs any more
    wanted_again: tuple[str, ...]
    waiting: Mapping[str, str]  # host -> why it is not ordered now
    look_at: float  # when something can change by itself; `inf` for never
