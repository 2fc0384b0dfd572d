"""One container: the control plane's order to the node, and the node's launch of the runner.

The control plane sends a `StartOrder` to a node. The node adds its own fields and sends a `Launch` to the
runner: it starts `python -m homeport.runner`, writes `codec.dumps(sent(launch))`, one line of JSON, to its
standard input, and gives it `Descriptors`. The runner answers on the report, one `Event` a line: `reached` for
each part of the start, then `ready` or `failed` once, and after `ready` the modules that it has `imported`.
Its output is the container's log. SIGTERM ends it: requests in flight finish, lifespans shut down, exit hooks
run. A second SIGTERM cuts requests in flight. It exits with 0 if it was asked to end.

Between the node and the runner is the container's *init* (runner/init.py), the parent of every process in the
container.
"""

import dataclasses
import enum
from collections.abc import Sequence
from dataclasses import field
from typing import Any

from homeport.contract import codec
from homeport.contract.dataclass import dataclass
from homeport.contract.image import CONFIG_STEPS
from homeport.contract.manifest import FunctionSpec, Value
from homeport.contract.scope import MAIN, Scope
from homeport.contract.traffic import PoolKey

#: Where a container in a cell finds the socket of `Launch.calls`.
CALLS = "/run/homeport/calls.sock"
#: And that of `Launch.ingress`.
URLS = "/run/homeport-urls/urls.sock"
HERE = "here"  # the node of the control plane's own machine
EXIT_GRACE_S = 30.0  # for a container's drain and exit hooks, if its function does not ask for more


class State(str, enum.Enum):
    """A container's states, which only go forward."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    GONE = "gone"
    FAILED = "failed"
    LOST = "lost"  # its node does not answer, so it may still run; only the control plane uses this state


@dataclass(frozen=True, slots=True, kw_only=True)
class StartOrder:
    """An order for one more container of a pool. The values of secrets are sent separately."""

    id: str  # `ta-…`
    pool: PoolKey
    function: FunctionSpec  # without its secrets: see `without_secrets`
    parameters: dict[str, Value] = field(default_factory=dict)  # the class parameters of this pool
    source: str = ""  # directory of the revision's source tree
    urls: dict[str, str] = field(default_factory=dict)  # tag -> URL, of the whole app
    scope: str = ""  # the id of the session that the app belongs to; empty: it is deployed
    within: Scope = MAIN  # the workspace and the environment of the app
    key: str = field(default="", repr=False)  # of that environment: see `calls.KEY`
    devices: tuple[str, ...] = ()  # the ids of this container's accelerators
    exit_grace_s: float = EXIT_GRACE_S  # from SIGTERM to SIGKILL, for drain and exit hooks together
    region: str = ""  # the machine's label; empty: none. For MODAL_REGION
    generation: int = 0  # of the node: the node refuses orders of an earlier generation, and ends their containers
    seal: str = field(
        default="", repr=False
    )  # of an order for another machine's node: see `link/seals`


def without_secrets(function: FunctionSpec) -> FunctionSpec:
    """Return the function without its secrets, as nodes and files on disk have it."""
    return dataclasses.replace(function, secrets=(), build_secrets=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """The runner's input: the order, and the fields that the node adds."""

    order: StartOrder
    tmp_dir: str = ""  # the container's own directory, deleted with it
    calls: str = ""  # the socket by which it calls functions; empty: it may call none
    #: The socket that leads to URLs, in a network of its own; empty: they are in reach.
    ingress: str = ""
    runner_path: str = ""  # last on `sys.path`: the packages that the runner needs
    cgroup: str = ""  # a directory of cgroup v2 to join
    cores: tuple[int, ...] = ()  # the cores that it stays on if no cgroup limits it
    entrypoint: tuple[str, ...] = ()  # of the image: it ends by starting the runner (`exec "$@"`)
    workdir: str = ""  # of an image with a root file system

    @property
    def id(self) -> str:
        """The container's id."""
        return self.order.id

    @property
    def function(self) -> FunctionSpec:
        """The function that the container runs."""
        return self.order.function


#: Fields of `FunctionSpec` and `WebMethod` that the runner never reads. A new field is sent by default.
UNREAD = (
    *("parameters", "secrets", "build_secrets", "build_volumes", "where", "retries"),
    *("exit_grace_s", "schedule"),
    *("min_containers", "buffer_containers", "scaledown_window_s"),
    *("target_inputs", "memory_mib", "ephemeral_disk_mib", "startup_timeout_s", "region"),
)
UNREAD_OF_WEB = ("label", "requires_proxy_auth", "custom_domains", "where")


def sent(launch: Launch) -> dict[str, Any]:
    """Return the launch for `codec.decode(Launch, …)` in the runner, short because each cold start parses it.

    Leaves out fields that equal their defaults, and fields that the runner never reads.
    """
    data: dict[str, Any] = codec.encode(launch, brief=True)
    data["order"].pop("seal", None)
    function = data["order"]["function"]
    for name in UNREAD:
        function.pop(name, None)
    for web in function.get("web", ()):
        for name in UNREAD_OF_WEB:
            web.pop(name, None)
    for step in function.get("image", {}).get("steps", ()):
        if step["name"] not in CONFIG_STEPS:
            step.pop("args", None)
    return data


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptors:
    """The descriptors that a node gives a container, by number or by SCM_RIGHTS; always in this order."""

    output: int  # init writes the container's output here
    report: int  # a stream socket to the node: one line of JSON, each way
    door: int  # a Unix socket that listens already, for the ingress
    pulse: int  # contract/pulse.py
    lifeline: int | None = None  # a pipe: the container ends when the other end closes

    def in_order(self) -> tuple[int, ...]:
        """The descriptors in the order that `of` expects."""
        ours = (self.output, self.report, self.door, self.pulse)
        return ours if self.lifeline is None else (*ours, self.lifeline)

    @staticmethod
    def of(numbers: Sequence[int]) -> "Descriptors":
        """Return the descriptors with the numbers that `in_order` lists."""
        output, report, door, pulse, *lifeline = numbers
        return Descriptors(
            output=output,
            report=report,
            door=door,
            pulse=pulse,
            lifeline=lifeline[0] if lifeline else None,
        )

    def environ(self) -> dict[str, str]:
        """Return variables with the numbers, for a fresh interpreter; its output is its stdout."""
        numbers = {"REPORT": self.report, "DOOR": self.door, "PULSE": self.pulse}
        if self.lifeline is not None:
            numbers["LIFELINE"] = self.lifeline
        return {f"HOMEPORT_{name}_FD": str(number) for name, number in numbers.items()}


# `busy`: another program has a web_server's port. `again`: the container starts again in a fresh interpreter;
# `unlike`: it should, but serves already. An event of another kind ends the container.
# `tunnel` comes with a socket (SCM_RIGHTS), at which the node listens for it; `closed` ends a tunnel.
KINDS = (
    *("reached", "ready", "failed", "busy", "imported", "held", "cut", "again", "unlike"),
    *("tunnel", "closed"),
)
MAX_TUNNELS = 8  # of a container at once


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
    held: int = 0  # held: slots with work that continues after its response (a background task)
    tunnel: str = ""  # tunnel, closed: its name, 20 hex digits that nobody can guess
    port: int = 0  # tunnel: of the container, where its requests go


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenTunnel:
    """A port of a container that has a URL: `modal.forward`."""

    name: str  # 20 hex digits
    port: int
    address: str  # where the ingress finds it: made by the node, as a door's


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A container's state, as its node reports it."""

    order: StartOrder
    state: State
    node: str = ""  # the name of the node that runs it
    pid: int = 0  # the runner's process id, which is the user's code's own
    address: str = ""  # `abstract:name` or `127.0.0.1:8000`, for the ingress; set by the node, never by the container
    #: Slots with work that continues after its response; the ingress sends no request to them.
    held: int = 0
    cuts: int = 0  # responses that it cut at their deadline because they were not read
    tunnels: tuple[OpenTunnel, ...] = ()
    leaving: bool = False  # True if it takes no more requests and ends; it needs a replacement
    reason: str = ""  # why it failed or ended
    traceback: str = ""
    started_at: float = 0.0  # seconds since the epoch
    ready_after_s: float = 0.0
    origin: str = "fresh"  # how it started: `fresh` interpreter, `forked`, or from a `snapshot`
    why_fresh: str = ""  # why it could not be forked
    timings_ms: dict[str, float] = field(default_factory=dict)  # scheduled, forked, imported, …
    imports_ms: dict[str, float] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The container's id."""
        return self.order.id


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """One line that a container printed, or that homeport wrote about it."""

    at: float  # seconds since the epoch
    app: str
    function: str
    container: str
    text: str  # without its newline
    source: str = "output"  # `output` (the container's) or `system` (ours)
    request: str = ""  # the X-Request-Id that it was printed for, if known
    node: str = ""  # the machine that has joined and runs the container; empty: the server's own
    within: Scope = MAIN  # of the app; not in the files of the log, which have a folder for each
