"""The dashboard: its address, and the sessions of people who look at it."""

from dataclasses import field

from homeport.contract.dataclass import dataclass

#: A request of the dashboard's container says by this field which visitor it is for.
VISITOR = "X-Homeport-Visitor"
CODE_S = 60.0  # how long a login link is valid
SESSION_S = 12 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DashboardLink:
    """A link that logs its first visitor in, with the permissions of the caller."""

    url: str = field(repr=False)  # with a code after the `#`, which no browser sends to a server
    expires_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginCode:
    """The code of a link."""

    code: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class DashboardSession:
    """A token that was made for one session of the dashboard."""

    secret: str = field(repr=False)  # `ak-….as-…`
    expires_at: float
