"""What the control plane and its child process for Ray tell each other: one JSON line for each message.

Each message is the whole of what its sender knows or wants, so one that is lost does no harm.
"""

from dataclasses import field

from homeport.contract.dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """Resources that one machine has to have together."""

    cpus: float = 0.0
    memory_mib: int = 0
    gpus: int = 0
    kind: str = ""  # a type of machine (`ray_node_types`), of which `share` is asked for instead
    share: float = 0.0  # 1: the whole machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Joining:
    """A machine of Ray's that has to run an agent."""

    ray_id: str
    name: str  # of the node
    address: str = ""  # of the control plane; empty: the machine has joined before
    token: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What the control plane wants of Ray."""

    bundles: tuple[Bundle, ...] = ()  # the cluster has to have room for all of them at once
    busy: tuple[str, ...] = ()  # the ids of machines that have containers: Ray must not remove them
    joining: tuple[Joining, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RayMachine:
    """A machine that Ray says is alive."""

    id: str  # of Ray's; another one each time that Ray starts there
    name: str  # its address, or the name that it was given
    host: str
    cpus: float = 0.0
    resources: tuple[str, ...] = ()  # their names
    is_own: bool = False  # the control plane's


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The machines of the Ray cluster."""

    machines: tuple[RayMachine, ...]
