"""Start this, and what it says of itself: the border between node and runner.

The node starts `python -m homeport.runner`, writes a `ContainerSpec`, one line of JSON, to its standard
input, and hands it `Descriptors`. The runner answers on the report, one `Event` a line: `reached` as it
goes, `ready` once, or `failed` once; a ready one tells what it has `imported`. What it prints is the
container's log. SIGTERM ends it: requests in flight finish, lifespans shut down, exit hooks run. A second
SIGTERM cuts what is in flight. It exits 0 when it was asked to, else not.

Between the two is the container's *init* (runner/init.py), the parent of everything in the container.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field

from homeport.contract.image import Image
from homeport.contract.manifest import WebMethod


class State(str, enum.Enum):
    """A container's life, in one direction."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    GONE = "gone"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """Everything that the runner needs to know; secrets travel in the process's environment."""

    id: str  # `ta-…`
    app: str
    function: str  # FunctionSpec.name
    revision: str  # Revision id
    pool: str  # PoolKey as text
    module: str
    qualname: str
    is_class: bool = False
    web: tuple[WebMethod, ...] = ()
    parameters: dict[str, str | int | bool | bytes] = field(default_factory=dict)
    image: Image = field(default_factory=Image)
    source: str = ""  # directory of the revision's source tree, on the node
    tmp_dir: str = ""  # a directory of its own, gone with it; the node fills it in
    max_inputs: int = 1
    single_use: bool = False
    timeout_s: float = 300.0
    startup_timeout_s: float = 300.0
    exit_grace_s: float = 30.0  # from SIGTERM to SIGKILL, drain and exit hooks together
    urls: dict[str, str] = field(default_factory=dict)  # tag -> URL, of the whole app
    enable_memory_snapshot: bool = False
    cpu: tuple[float, float | None] | None = None  # cores: request, hard limit
    memory_mib: tuple[int, int | None] | None = None  # request, hard limit
    ephemeral_disk_mib: int | None = None  # how large `tmp_dir` may become
    gpu: tuple[str, ...] = ()  # in order of preference
    devices: tuple[str, ...] = ()  # accelerators that are this container's, by id
    runner_path: str = ""  # comes last on `sys.path`: what the runner needs; the node fills it in
    cgroup: str = ""  # a directory of cgroup v2 to join; the node fills it in
    cores: tuple[int, ...] = ()  # to stay on, where no cgroup limits it; the node fills it in

    @property
    def port(self) -> int | None:
        """The TCP port of a `web_server`, else None: the runner lets requests in at its door."""
        return next((web.port for web in self.web if web.port is not None), None)


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

    spec: ContainerSpec
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
