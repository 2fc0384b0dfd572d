"""The requests and answers of a session (`homeport serve`, `homeport run`), beside its events."""

from homeport.contract.api.apps import EndpointStatus
from homeport.contract.dataclass import dataclass
from homeport.contract.manifest import Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Serve:
    """An app to serve in a session, or the next state of a session's app."""

    manifest: Manifest
    #: When the connection ends, the app continues until its spawned calls have ended.
    detach: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """The endpoints of one app."""

    endpoints: tuple[EndpointStatus, ...]
