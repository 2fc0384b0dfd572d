"""Containers."""

from homeport.contract.container import State
from homeport.contract.dataclass import dataclass


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
    gpus: tuple[str, ...] = ()  # the ids of its GPUs


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerList:
    """Containers, the newest first."""

    containers: tuple[ContainerStatus, ...]
