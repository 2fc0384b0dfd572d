"""A function of an app that serves: its numbers and its scaling."""

from homeport.contract.dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionQuery:
    """Which containers of a function are meant."""

    session: str = ""  # the id of a session; empty: the deployed app
    parameters: str = ""  # class parameters, as a query string
    version: int = 0  # of the app; 0: the current one
    variant: str = ""  # the digest of its options; empty: the function as it was declared


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A function with other options, ready to be called."""

    endpoint: str  # the id by which it is called
    function: str  # its name in the app's `functions`, and in logs


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionStats:
    """The numbers of a function at one moment."""

    tag: str  # the function, or `Class.method`
    url: str  # empty: it has none, and is called
    backlog: int  # requests that wait for a container
    containers: int  # that run, or start
    running: int  # requests inside containers
    headroom: int  # requests that the containers could take in addition
    scaling: "Scaling"  # in force
    #: The URL by a port of its own, for programs that do not know `*.localhost`.
    local_url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """The settings for the number of containers; in a request, null leaves a value as it is."""

    min_containers: int | None = None
    max_containers: int | None = None  # in an answer, null is no limit
    buffer_containers: int | None = None
    scaledown_window: float | None = None  # seconds
    target_inputs: int | None = None  # requests at once for which there is one container
