"""Apps, their endpoints and their versions."""

import enum

from homeport.contract.api.containers import ContainerStatus
from homeport.contract.dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionStatus:
    """One function or class of an app, with or without URLs, and what happens there.

    The numbers are of all web methods of a class and all values of its parameters together.
    """

    name: str  # or `Class.*`
    containers: int  # how many containers can answer, or will
    running: int  # requests inside containers at this moment
    queued: int  # requests that wait for a container at this moment
    served: int  # requests that were answered since the server started
    errors: int  # those of them that were answered with 5xx
    cold_starts: int  # containers that became ready
    failed_starts: int  # containers that did not
    next_run: float | None = None  # when its schedule is due next; null: it has none


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointStatus:
    """One URL, or one function that is called by `.remote()`, and what happens there.

    The numbers are those of its whole function (`FunctionStatus`): to add them up, use the app's `functions`.
    Only `p50_ms` and `p99_ms` are of the one URL.
    """

    tag: str  # the function, or `Class.method`
    url: str  # empty: it has none, and is called
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
    custom_domains: tuple[str, ...] = ()  # more URLs of the same endpoint
    #: The state of its hosts' certificates (`Certificate.state`); empty: there is no HTTPS.
    certificate: str = ""
    certificate_error: str = ""  # why one is missing
    function: str = ""  # the name of its function in the app's `functions`


class AppState(str, enum.Enum):
    """The state of an app."""

    DEPLOYED = "deployed"
    SERVING = "serving"
    BROKEN = "broken"
    STOPPED = "stopped"


class CanaryState(str, enum.Enum):
    """The state of a canary."""

    RUNNING = "running"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled back"


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryEndpoint:
    """What a canary was judged by at one URL that both versions have."""

    tag: str  # the function, or `Class.method`
    old_requests: int
    old_failed: int  # 5xx, timeouts, and containers that died
    old_p95_ms: int | None  # of the time until the app's first byte; null without requests
    new_requests: int
    new_failed: int
    new_p95_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryStatus:
    """A version that gets, or got, a part of an app's requests (`deploy --canary`)."""

    version: int
    before: int  # the version that it is compared with
    percent: float  # of the requests
    state: CanaryState
    began_at: float
    ends_at: float  # when it is promoted, if nothing is wrong until then
    ended_at: float | None  # null while it runs
    reason: str  # why it has ended
    endpoints: tuple[CanaryEndpoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AppStatus:
    """One deployed app, or one session of `homeport serve` or `homeport run`."""

    name: str
    app_id: str  # `ap-…`
    state: AppState  # `broken`: it could not be served again after a restart, and is tried again
    reason: str  # why it is broken
    version: int  # 0 for a session
    created_at: float
    stopped_at: float | None
    endpoints: tuple[EndpointStatus, ...]
    containers: tuple[ContainerStatus, ...]  # the newest first
    functions: tuple[FunctionStatus, ...] = ()  # every function, also one without a URL
    expires_at: float | None = None  # when it stops by itself; null: it does not
    environment: str = "main"
    canary: CanaryStatus | None = None  # the last one, also if it has ended; null: there was none


@dataclass(frozen=True, slots=True, kw_only=True)
class AppList:
    """The live apps, the newest first, then those that are stopped or broken."""

    apps: tuple[AppStatus, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of a deployed app."""

    version: int
    created_at: float
    tag: str  # as `deploy --tag` named it
    current: bool  # it serves the app's main URLs
    urls: dict[str, str]  # tag of an endpoint -> its URL of this very version
    canary: CanaryState | None = None  # of a version that was deployed as one
    by: str = ""  # who deployed it, as in the audit log; empty: it is not known any more
    user: str = ""  # of their token


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """An app's versions, the newest first."""

    revisions: tuple[Version, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """An app that was stopped."""

    containers: int  # how many were ended


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangesQuery:
    """Between which two versions."""

    before: int = 0  # the version before `after` by default
    after: int = 0  # the newest by default


@dataclass(frozen=True, slots=True, kw_only=True)
class FileState:
    """A file of a version."""

    size_bytes: int
    sha256: str
    executable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FileChange:
    """A file that differs between two versions."""

    path: str
    before: FileState | None  # null: it was added
    after: FileState | None  # null: it was removed
    #: Unified; empty for binary files, large ones, and callers without the scope `deploy`.
    diff: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingChange:
    """A setting of a function that differs between two versions."""

    function: str  # empty: of the app
    setting: str  # such as `timeout_s`, `web greet label` or `image`
    before: str | None  # null: there was none
    after: str | None  # null: there is none any more


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What differs between two versions of an app. No value of a secret is in it."""

    app: str
    before: int
    after: int
    files: tuple[FileChange, ...]
    settings: tuple[SettingChange, ...]
    left_out: int = 0  # files that differ, and are too many to be listed
