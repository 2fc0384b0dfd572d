"""What the control plane's API takes and answers: the border between a client and the server.

The handlers of `control/api` return these types, `client.py` reads them back, and `--json` prints them as
`codec.encode` writes them. docs/reference/api.md is generated from them: the first line of a docstring says
what an object is, and the comment beside a field what the field means.

A field that is added later gets a default, so that a newer command can read an older server. Times are in
seconds since the epoch.
"""

import enum
from dataclasses import dataclass, field
from typing import Any, Literal

from homeport.contract import codec
from homeport.contract.container import LogLine, State
from homeport.contract.errors import Failure
from homeport.contract.image import Environment
from homeport.contract.manifest import Manifest
from homeport.contract.traffic import RequestRecord

#: The kind of a fault of homeport's own; every other kind is a class in `errors.py`.
BUG = "Bug"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Why something failed."""

    kind: str  # see [errors](errors.md); `Bug` is a fault of homeport's own
    message: str  # what happened
    where: str = ""  # the place in the user's script
    hint: str = ""  # what to do next
    traceback: str = ""  # the user's own frames

    @staticmethod
    def of(error: Exception) -> "Fault":
        """Return what may be told of an error; of one that nobody foresaw that is its type alone."""
        if isinstance(error, Failure):
            return codec.decode(Fault, error.to_dict())  # type: ignore[no-any-return]
        return Fault(
            kind=BUG,
            message=f"the server failed: {type(error).__name__}",  # its text may quote a secret
            hint="the details are in server.log in the home",
        )

    def failure(self) -> Failure:
        """Return the failure that it tells of; an unknown kind becomes a plain `Failure`."""
        return Failure.from_dict(codec.encode(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The answer to a request that failed; its status is that of the error's kind."""

    error: Fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Nothing:
    """An answer that only says that it is done: `{}`."""


# What runs


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerStatus:
    """One container."""

    id: str  # `ta-…`
    app: str
    function: str  # or `Class.*`
    revision: str  # the id of the version that it belongs to
    state: State
    pid: int  # of the process that runs the user's code; 0 before it exists
    started_at: float
    reason: str = ""  # why it ended or failed
    node: str = ""  # the name of the node that runs it; this machine is `here`


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointStatus:
    """One URL, and what happens there.

    The numbers are those of the whole function: all web methods of a class and all values of its parameters together.
    Only `p50_ms` and `p99_ms` are of the one URL.
    """

    tag: str  # the function, or `Class.method`
    url: str
    local_url: str  # the same by a port of its own, for programs that do not know `*.localhost`
    protected: bool  # requests need a proxy token
    truncated: bool  # the URL was too long, and ends in a hash
    stolen: bool  # the URL belonged to an earlier session
    containers: int  # how many containers can answer, or will
    running: int  # requests inside containers at this moment
    queued: int  # requests that wait for a container at this moment
    served: int  # requests that were answered since the server started
    errors: int  # those of them that were answered with 5xx
    cold_starts: int  # containers that became ready
    failed_starts: int  # containers that did not
    p50_ms: int | None  # the median of the last minutes; null without requests
    p99_ms: int | None  # the 99th percentile of the last minutes; null without requests


class AppState(str, enum.Enum):
    """What an app does."""

    DEPLOYED = "deployed"
    SERVING = "serving"
    BROKEN = "broken"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class AppStatus:
    """One deployed app, or one `homeport serve` session."""

    name: str
    app_id: str  # `ap-…`
    state: AppState  # `broken`: it could not be served again after a restart, and is tried again
    reason: str  # why it is broken
    version: int  # 0 for a session
    created_at: float
    stopped_at: float | None
    endpoints: tuple[EndpointStatus, ...]
    containers: tuple[ContainerStatus, ...]  # the newest first


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The server, and everything that it runs."""

    pid: int
    version: str  # of homeport
    home: str
    host: str
    http_port: int
    domain: str
    workspace: str
    settings: dict[str, str | int | None]  # all that are in force, but for secrets
    ingress_pid: int | None  # of HAProxy; null while there is none
    kept: bool  # the server runs in the background, and not for one command
    started_at: float
    database: str = ""  # where the rows are, without a password
    trouble: str = ""  # why the database cannot be read now; empty if it can
    apps: tuple[AppStatus, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Apps:
    """The live apps, the newest first, then those that are stopped or broken."""

    apps: tuple[AppStatus, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Containers:
    """Containers, the newest first."""

    containers: tuple[ContainerStatus, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of a deployed app."""

    version: int
    created_at: float
    tag: str  # as `deploy --tag` named it
    current: bool  # it serves the app's main URLs
    urls: dict[str, str]  # tag of an endpoint -> its URL of this very version


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """An app's versions, the newest first."""

    revisions: tuple[Version, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """An app that was stopped."""

    containers: int  # how many were ended


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdStart:
    """How one container started, ready or failed.

    The parts of `timings_ms` follow each other without a gap: parked, scheduled, forked, imported, entered,
    listening, attached, first_byte. A part that was not reached, or is not known, is not there.
    """

    at: float  # when the first request came that waited for the container
    app: str
    function: str
    container: str
    revision: str
    origin: str  # `fresh`, `forked` or `snapshot`
    why_fresh: str = ""  # why it was not forked
    failed: str = ""  # why it did not become ready
    timings_ms: dict[str, float] = field(default_factory=dict)  # the parts, by name
    imports_ms: dict[str, float] = field(default_factory=dict)  # the slowest imports, by module
    total_ms: float = 0.0  # the sum of the parts


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdStarts:
    """How an app's containers started, the newest last."""

    cold_starts: tuple[ColdStart, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Images:
    """Environments that were built on this machine, the newest first."""

    images: tuple[Environment, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuery:
    """Which lines of an app's log are wanted."""

    tail: int = 100  # the last so many
    follow: bool = False  # wait for more
    function: str = ""  # of this function alone
    container: str = ""  # of this container alone
    request: str = ""  # printed for this `X-Request-Id` alone
    since: float = 0.0  # not older than this


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdStartQuery:
    """Which cold starts are wanted."""

    tail: int = 100  # the last so many; no more than a hundred of an app are kept
    function: str = ""  # of this function alone


# Secrets and tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSecret:
    """A secret, without its values."""

    name: str
    keys: tuple[str, ...]
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Secrets:
    """Every secret."""

    secrets: tuple[StoredSecret, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSecret:
    """A secret to create."""

    name: str
    values: dict[str, str] = field(repr=False)  # by the name of its variable
    force: bool = False  # replace the values of one that exists


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretKeys:
    """A secret that was created."""

    name: str
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyToken:
    """A proxy token, without its secret."""

    name: str
    token_id: str  # `wk-…`
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyTokens:
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


# Volumes


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredVolume:
    """A volume."""

    id: str  # `vo-…`; it stays when the name changes
    name: str  # empty: an ephemeral one, which goes with the program that made it
    created_at: float
    size_bytes: int | None = None  # what it takes on the disk; null where nobody asked for it
    files: int | None = None  # how many files it has; null where nobody asked for it


@dataclass(frozen=True, slots=True, kw_only=True)
class Volumes:
    """Every volume that has a name."""

    volumes: tuple[StoredVolume, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumesQuery:
    """Which facts of the volumes to tell."""

    sizes: bool = False  # `1` measures each of them


@dataclass(frozen=True, slots=True, kw_only=True)
class NewVolume:
    """A volume to create."""

    name: str = ""  # empty: an ephemeral one, which is deleted when the server starts again
    allow_existing: bool = False  # answer with the volume of that name if there is one


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeName:
    """Another name for a volume."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesQuery:
    """Which files of a volume."""

    path: str = ""  # empty or `/`: the root
    recursive: bool = False  # `1`: also what is below directories


@dataclass(frozen=True, slots=True, kw_only=True)
class FileQuery:
    """One file of a volume, and how to write it."""

    path: str = ""
    mode: str = "644"  # its permissions, octal
    force: bool = False  # `1` replaces a file that exists


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One line of a listing."""

    path: str  # from the root of the volume; what is not text in it is escaped, as `\\xff`
    type: str  # `file`, `directory`, `symlink`, `fifo`, `socket` or `other`
    size: int  # bytes
    mtime: float
    event: Literal["entry"] = "entry"


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """Files to copy within a volume, as `cp` does."""

    sources: tuple[str, ...]
    target: str
    recursive: bool = False  # also directories


# Files


@dataclass(frozen=True, slots=True, kw_only=True)
class Hashes:
    """Files that a manifest names."""

    hashes: tuple[str, ...]  # SHA-256 in hex


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """Those of the files that the server does not have."""

    missing: tuple[str, ...]  # SHA-256 in hex


# Deploys


@dataclass(frozen=True, slots=True, kw_only=True)
class Deploy:
    """A version to deploy."""

    manifest: Manifest
    tag: str = ""  # a word to find the version by
    strategy: str = "rolling"  # or `recreate`: the old containers end before new ones start
    drain_s: float | None = (
        None  # how long requests inside the old version may go on; its `timeout` by default
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollback:
    """An earlier version to deploy again, as a new version."""

    version: int | None = None  # the one before the current one by default
    strategy: str = "rolling"  # or `recreate`


@dataclass(frozen=True, slots=True, kw_only=True)
class Serve:
    """An app to serve in a session, or the next state of a session's app."""

    manifest: Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """The endpoints of one app."""

    endpoints: tuple[EndpointStatus, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """How a deploy or a rollback ended."""

    app: str
    version: int
    skipped: bool  # nothing had changed, and nothing was done
    endpoints: tuple[EndpointStatus, ...]


# The lines of a stream; `event` says which one a line is


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """The first line of a `serve` session."""

    id: str
    app: str
    event: Literal["session"] = "session"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What is done at this moment: a step of a build, a container that is ready."""

    text: str
    event: Literal["progress"] = "progress"


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What a container prints."""

    line: LogLine
    event: Literal["log"] = "log"


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The last line of a deploy or a rollback that worked."""

    deployed: Deployed
    event: Literal["done"] = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """The URLs of a session, which answer from now on."""

    endpoints: tuple[EndpointStatus, ...]
    event: Literal["serving"] = "serving"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request to a session that has ended."""

    tag: str  # of its endpoint
    request: RequestRecord
    untold: int = 0  # requests before this one that came too fast to be told of
    event: Literal["request"] = "request"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """A container of a session did not start."""

    error: Fault
    event: Literal["failed"] = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stolen:
    """Another session has taken a URL of this one."""

    tag: str
    url: str
    event: Literal["stolen"] = "stolen"


@dataclass(frozen=True, slots=True, kw_only=True)
class Error:
    """The last line of a stream that failed."""

    error: Fault
    event: Literal["error"] = "error"


DeployEvent = Log | Progress | Done | Error
SessionEvent = Session | Progress | Serving | Log | Request | Failed | Stolen | Error
Event = DeployEvent | SessionEvent
_EVENTS: dict[str, Any] = {
    "session": Session,
    "progress": Progress,
    "log": Log,
    "done": Done,
    "serving": Serving,
    "request": Request,
    "failed": Failed,
    "stolen": Stolen,
    "error": Error,
}


def event(data: dict[str, Any]) -> Event | None:
    """Return the line of a stream that `codec.encode` made `data` from; None for an unknown one.

    >>> event({"event": "progress", "text": "building"}).text
    'building'
    """
    cls = _EVENTS.get(str(data.get("event")))
    return codec.decode(cls, data) if cls is not None else None
