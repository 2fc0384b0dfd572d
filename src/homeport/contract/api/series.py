"""What happened over time: requests by endpoint, containers by function, and deployments."""

from homeport.contract.dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesQuery:
    """Which part of the past is wanted, and how finely it is divided."""

    app: str = ""  # of this app alone
    tag: str = ""  # of this function alone, or of `Class.method`
    since: float = 0.0  # an hour before `until` by default; not more than 31 days before it
    until: float = 0.0  # now by default
    step_s: int = 60  # the length of a step: 10, 60, 300, 900 or 3600; another one is rounded up


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSeries:
    """The requests to an endpoint, or the calls of a function, by the step in which they ended."""

    app: str
    tag: str  # the function, or `Class.method`
    #: Requests by the class of their status: `2xx` … `5xx`, and `left` for visitors who left before there was a response. A class
    #: without requests is not there.
    by_status: dict[str, tuple[int, ...]]
    p50_ms: tuple[int | None, ...]  # the median, within 4 %; null: no request ended
    p99_ms: tuple[int | None, ...]
    cold: tuple[int, ...]  # requests that waited for a container
    sent_bytes: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionSeries:
    """The containers of a function. They are looked at every 15 seconds."""

    app: str
    function: str
    containers: tuple[int, ...]  # the most at once
    cold_starts: tuple[int, ...]  # containers that became ready
    failed_starts: tuple[int, ...]
    cpu_cores: tuple[float, ...]  # the cores that all of them used together, on average
    memory_mib: tuple[int, ...]  # the most that all of them used together
    gpu_memory_mib: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployMarker:
    """A version that was deployed."""

    at: float
    app: str
    version: int
    tag: str  # the word of `--tag`
    user: str = ""  # who deployed it; empty: it is not known any more


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """What happened from `begin` on, in `steps` steps of `step_s` seconds; the last one may not be over.

    What was quiet all the time is left out.
    """

    begin: float
    step_s: int  # longer than the query's if there would be too many steps
    steps: int
    endpoints: tuple[EndpointSeries, ...]
    functions: tuple[FunctionSeries, ...]
    deploys: tuple[DeployMarker, ...]
