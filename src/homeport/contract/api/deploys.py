"""A deploy and a rollback: the request and the result."""

from homeport.contract.api.apps import EndpointStatus
from homeport.contract.dataclass import dataclass
from homeport.contract.manifest import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Deploy:
    """A version to deploy."""

    manifest: Manifest
    tag: str = ""  # a word to find the version by
    strategy: str = "rolling"  # or `recreate`: the old containers end before new ones start
    drain_s: float | None = (
        None  # how long requests inside the old version may go on; its `timeout` by default
    )
    expires_s: float | None = (
        None  # the app stops then; 0: never; null: as said at an earlier deploy
    )


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
