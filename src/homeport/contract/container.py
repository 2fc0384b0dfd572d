"""One container, on its two borders: what the node is asked for, and what the runner reads.

The control plane sends a `StartOrder` to a node. The node adds what only it knows and sends a `Launch` to the
runner: it starts `python -m homeport.runner`, writes `codec.dumps(sent(launch))`, one line of JSON, to its
standard input, and hands it `Descriptors`. The runner answers on the report, one `Event` a line: `reached` as it
goes, `ready` once, or `failed` once; a ready one tells what it has `imported`. What it prints is the
container's log. SIGTERM ends it: requests in flight finish, lifespans shut down, exit hooks run. A second
SIGTERM cuts what is in flight. It exits 0 when it was asked to, else not.

Between the two is the container's *init* (runner/init.py), the parent of everything in the container.
"""

import dataclasses
import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from homeport.contract import codec
from homeport.contract.image import CONFIG_STEPS
from homeport.contract.manifest import FunctionSpec, Value
from homeport.contract.traffic import PoolKey


class State(str, enum.Enum):
    """A container's life, in one direction."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    GONE = "gone"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class StartOrder:
    """What a node is asked for: one more container of a pool. Secrets' values travel beside it."""

    id: str  # `ta-…`
    pool: PoolKey
    function: FunctionSpec  # without its secrets: see `without_secrets`
    parameters: dict[str, Value] = field(default_factory=dict)  # the class parameters of this pool
    source: str = ""  # directory of the revision's source tree
    urls: dict[str, str] = field(default_factory=dict)  # tag -> URL, of the whole app
    devices: tuple[str, ...] = ()  # accelerators that are this container's, by id
    exit_grace_s: float = 30.0  # from SIGTERM to SIGKILL, drain and exit hooks together


def without_secrets(function: FunctionSpec) -> FunctionSpec:
    """Return the function as a node may know it, and as its files may hold it."""
    return dataclasses.replace(function, secrets=(), build_secrets=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What the runner is told: the order, and what the node adds to it."""

    order: StartOrder
    tmp_dir: str = ""  # a directory of its own, gone with it
    runner_path: str = ""  # comes last on `sys.path`: the packages that the runner needs
    cgroup: str = ""  # a directory of cgroup v2 to join
    cores: tuple[int, ...] = ()  # to stay on, where no cgroup limits it

    @property
    def id(self) -> str:
        """The container's id."""
        return self.order.id

    @property
    def function(self) -> FunctionSpec:
        """The function that the container runs."""
        return self.order.function


#: Fields of `FunctionSpec` and `WebMethod` that the runner never reads. A new field reaches it by itself.
UNREAD = (
    *("parameters", "secrets", "build_secrets", "where"),
    *("min_containers", "max_containers", "buffer_containers", "scaledown_window_s"),
    *("target_inputs", "memory_mib", "ephemeral_disk_mib", "startup_timeout_s"),
)
UNREAD_OF_WEB = ("label", "requires_proxy_auth", "custom_domains", "where")


def sent(launch: Launch) -> dict[str, Any]:
    """Return what `codec.decode(Launch, …)` reads in the runner: short, because each cold start parses it.

    Fields at their defaults are left out, and so is what the runner never reads: it sees the defaults there.
    """
    told: dict[str, Any] = codec.encode(launch, brief=True)
    function = told["order"]["function"]
    for name in UNREAD:
        function.pop(name, None)
    for web in function.get("web", ()):
        for name in UNREAD_OF_WEB:
            web.pop(name, None)
    for step in function.get("image", {}).get("steps", ()):
        if step["name"] not in CONFIG_STEPS:
            step.pop("args", None)
    return told


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptors:
    """What a node hands to a container, by number or by SCM_RIGHTS; always in this order."""

    output: int  # where its init writes what the container prints
    report: int  # a stream socket to the node: one line of JSON, each way
    door: int  # a Unix socket that listens already: whoever connects brings requests
    pulse: int  # contract/pulse.py
    lifeline: int | None = None  # a pipe: the container ends when the other end closes

    def in_order(self) -> tuple[int, ...]:
        """As `of` takes them."""
        ours = (self.output, self.report, self.door, self.pulse)
        return ours if self.lifeline is None else (*ours, self.lifeline)

    @staticmethod
    def of(numbers: Sequence[int]) -> "Descriptors":
        """Those that `in_order` listed."""
        output, report, door, pulse, *lifeline = numbers
        return Descriptors(
            output=output,
            report=report,
            door=door,
            pulse=pulse,
            lifeline=lifeline[0] if lifeline else None,
        )

    def environ(self) -> dict[str, str]:
        """How a fresh interpreter is told their numbers; its output is where it prints."""
        told = {"REPORT": self.report, "DOOR": self.door, "PULSE": self.pulse}
        if self.lifeline is not None:
            told["LIFELINE"] = self.lifeline
        return {f"HOMEPORT_{name}_FD": str(number) for name, number in told.items()}


# `busy`: a web_server's port is somebody else's. `again`: it begins once more, in a fresh interpreter;
# `unlike`: it should, and serves already. A word of another kind ends the container.
KINDS = ("reached", "ready", "failed", "busy", "imported", "held", "cut", "again", "unlike")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One line from the runner to the node."""

    kind: str  # one of KINDS
    reason: str = ""  # failed, again, unlike: one line
    traceback: str = ""  # failed: the user's frames, for the log and `serve`
    phase: str = ""  # failed: import, enter, build, lifespan, port; reached: the part that begins
    timings_ms: dict[str, float] = field(default_factory=dict)  # imported, entered, listening
    imports_ms: dict[str, float] = field(default_factory=dict)  # the slowest modules, by name
    modules: tuple[
        str, ...
    ] = ()  # imported: in order, what a zygote may preload; again, unlike: not these
    held: int = 0  # held: slots with work that goes on after its response (a background task)


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """What a node knows of one of its containers."""

    order: StartOrder
    state: State
    pid: int = 0  # of the runner: what the user's code sees as its own
    address: str = ""  # `abstract:name` or `127.0.0.1:8000`, where the ingress reaches it; the node says it, never the container
    held: int = 0  # slots that work after a response still takes; the ingress gives them to nobody
    cuts: int = 0  # responses that it ended before they were read, as their time was up
    leaving: bool = False  # it lets nobody in any more, and ends: another has to take its place
    reason: str = ""  # of failed and gone
    traceback: str = ""
    started_at: float = 0.0  # seconds since the epoch
    ready_after_s: float = 0.0
    origin: str = "fresh"  # how it began: `fresh` interpreter, `forked`, or from a `snapshot`
    why_fresh: str = ""  # what stood against forking it
    timings_ms: dict[str, float] = field(default_factory=dict)  # scheduled, forked, imported, …
    imports_ms: dict[str, float] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The container's id."""
        return self.order.id


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line that a container printed, or that homeport says of it."""

    at: float  # seconds since the epoch
    app: str
    function: str
    container: str
    text: str  # without its newline
    source: str = "output"  # `output` (the container's) or `system` (ours)
    request: str = ""  # the X-Request-Id that it was printed for, where that is known
