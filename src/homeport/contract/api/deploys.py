"""A deploy and a rollback: the request and the result."""

from homeport.contract.api.apps import CanaryStatus, EndpointStatus
from homeport.contract.dataclass import dataclass
from homeport.contract.errors import BadRequest
from homeport.contract.manifest import Manifest

PERCENT = (0.1, 99.9)  # of a canary
SECONDS = (5.0, 30 * 86400.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """How a version is tried before it serves all requests."""

    percent: float  # of the requests that it gets: from 0.1 to 99.9
    seconds: float = 600.0  # until it is promoted, if nothing is wrong: from 5 seconds to 30 days


@dataclass(frozen=True, slots=True, kw_only=True)
class Deploy:
    """A version to deploy."""

    manifest: Manifest
    tag: str = ""  # a word to find the version by
    strategy: str = "rolling"  # or `recreate`: the old containers end before new ones start
    #: How long requests inside the old version may continue; its `timeout` by default.
    drain_s: float | None = None
    #: After so long the app stops; 0: never; null: as said at an earlier deploy.
    expires_s: float | None = None

    canary: Canary | None = None  # null: the version serves all requests


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback:
    """An earlier version to deploy again, as a new version."""

    version: int | None = None  # the one before the current one by default
    strategy: str = "rolling"  # or `recreate`


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """The result of a deploy or a rollback."""

    app: str
    version: int
    skipped: bool  # nothing had changed, and nothing was done
    endpoints: tuple[EndpointStatus, ...]
    canary: CanaryStatus | None = None  # what a canary has become by it; null: there was none


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployRecord:
    """One try to change what an app serves."""

    id: int
    app: str
    kind: str  # `deploy`, `canary`, `promote`, `rollback` or `stop`
    at: float  # when it began
    ended_at: float | None  # null while it is running
    version: int | None  # that it made; null: none
    tag: str  # as `deploy --tag` named it
    by: str  # as in the audit log: `socket` (the server's own user), `token`, `server`
    user: str  # of the token
    result: str  # `running`, `ok`, `skipped` (nothing had changed), `interrupted` (the server ended), or the kind of the error
    reason: str = ""  # why it failed


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployQuery:
    """Which deploys are wanted."""

    app: str = ""  # of this app alone
    tail: int = 50  # the last so many, at most 1,000


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployList:
    """Deploys, rollbacks and stops, the newest first."""

    deploys: tuple[DeployRecord, ...]


def checked(canary: Canary) -> Canary:
    """Return a canary; `BadRequest` for a share or a time that none can have."""
    if not PERCENT[0] <= canary.percent <= PERCENT[1]:
        raise BadRequest(
            f"a canary gets from {PERCENT[0]:g}% to {PERCENT[1]:g}% of the requests, not {canary.percent:g}%",
            hint="without `--canary`, the new version serves all requests",
        )
    if not SECONDS[0] <= canary.seconds <= SECONDS[1]:
        raise BadRequest("a canary runs for 5 seconds up to 30 days")
    return canary
