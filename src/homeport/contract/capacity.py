"""The resources of a machine that its containers share."""

from homeport.contract.dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """One device that one container has at a time."""

    id: str  # as CUDA_VISIBLE_DEVICES takes it: `GPU-8f6c…`
    name: str  # `NVIDIA H100 80GB HBM3`
    memory_mib: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """All resources of a node, used or not."""

    cores: int
    memory_mib: int
    places: int = 100  # containers that it may run at once
    accelerators: tuple[Accelerator, ...] = ()
    isolated: bool = False  # each container has a file system and namespaces of its own
    #: Containers can have a network of their own, so `block_network=True` is possible.
    networks: bool = False
    own_ports: bool = False  # each `web_server` has a network of its own, with access to the internet: it takes no port
    has_mounts: bool = False  # a container can have volumes
    #: The machine's label `region`; None: no machine has one, so regions do not count. The control plane writes it.
    region: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a container uses."""

    cpu_s: float  # seconds of a core, since its start
    memory_mib: int  # of this moment; memory that several processes share counts once
    gpu_memory_mib: int = 0  # of this moment
