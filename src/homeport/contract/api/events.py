"""The lines of a stream; `event` says which one a line is."""

from dataclasses import field
from typing import Any, Literal

from homeport.contract import codec, output
from homeport.contract.api.answers import Fault
from homeport.contract.api.apps import EndpointStatus
from homeport.contract.api.deploys import Deployed
from homeport.contract.container import LogLine
from homeport.contract.dataclass import dataclass
from homeport.contract.traffic import RequestRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """The first line of a `serve` session."""

    id: str
    app: str
    key: str = field(default="", repr=False)  # of the environment: see contract/calls.py
    event: Literal["session"] = "session"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """The progress of a deploy: a step of a build, a container that is ready."""

    text: str
    image: str = ""  # of a build's step that begins: the function whose image it is
    step: int = 0  # its number, from 1; 0: all steps of the image are done
    steps: int = 0  # how many the image has; 0: the text is of no step's beginning
    event: Literal["progress"] = "progress"


def progress(text: str) -> Progress:
    """Return the event of a line that a build or a deploy has printed.

    >>> progress("building").text
    'building'
    >>> progress(output.step(2, 3, "uv_pip_install", "price")).text
    'image of `price`: step 2 of 3, uv_pip_install'
    """
    if (marked := output.read_step(text)) is None:
        return Progress(text=text)
    number, count, name, image = marked
    state = f"step {number} of {count}, {name}" if number else "built"
    return Progress(text=f"image of `{image}`: {state}", image=image, step=number, steps=count)


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """A line that a container has printed."""

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
    untold: int = 0  # requests before this one that came too fast to be shown
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


def read(data: dict[str, Any]) -> Event | None:
    """Return the event that `codec.encode` made `data` from; None for an unknown one.

    >>> read({"event": "progress", "text": "building"}).text
    'building'
    >>> read({"event": "of a later version"}) is None
    True
    """
    cls = _EVENTS.get(str(data.get("event")))
    return codec.decode(cls, data) if cls is not None else None
