"""The machines that a Ray cluster could add: which functions they could run. PURE."""

import dataclasses
import math
import re
from collections.abc import Iterable, Sequence

from homeport.contract.capacity import Accelerator, Capacity
from homeport.contract.dataclass import dataclass
from homeport.contract.growth import Bundle
from homeport.contract.manifest import FunctionSpec
from homeport.contract.node_types import NodeType
from homeport.control.fleet import accelerators, scheduler

MIB_OF_GB = 1024
STEP = 10_000  # Ray counts resources in ten-thousandths


@dataclass(frozen=True, slots=True, kw_only=True)
class Addable:
    """What is known of the machines that Ray could add."""

    types: tuple[NodeType, ...] = ()  # none: Ray may add machines, and nothing is known of them
    share_volumes: bool = False

    def fitting(self, function: FunctionSpec, there: Sequence[Capacity]) -> NodeType | None:
        """Return the first type whose machines could run a function; None if there is none.

        `there` are the machines that are present: a new one isolates containers if one of these does.
        """
        return next(
            (kind for kind in self.types if scheduler.suits(function, self._machine(kind, there))),
            None,
        )

    def may_help(self, function: FunctionSpec, there: Sequence[Capacity]) -> bool:
        """Return whether a machine of which nothing is known could run a function that a present machine can run too.

        It would have no region and, unless they are shared, no volumes.
        """
        without_size = dataclasses.replace(function, gpu=(), memory_mib=None)
        return not self.types and scheduler.suits(
            without_size, self._machine(NodeType(name=""), there)
        )

    def bundle(self, kind: NodeType, function: FunctionSpec, there: Sequence[Capacity]) -> Bundle:
        """Return how much of a machine of this type one container takes: the largest share of all its resources."""
        machine = self._machine(kind, there)
        needs = scheduler.needs(function, machine)
        devices = accelerators.choose(needs.gpu, machine.accelerators) or ()
        share = max(
            1 / max(1, machine.places),
            needs.cores / machine.cores,
            needs.memory_mib / machine.memory_mib if machine.memory_mib else 0.0,
            len(devices) / kind.gpus if kind.gpus else 0.0,
        )
        return Bundle(kind=kind.name, share=min(1.0, math.ceil(share * STEP) / STEP))

    def _machine(self, kind: NodeType, there: Sequence[Capacity]) -> Capacity:
        """Return the resources of a machine of this type as its agent would report them."""
        size = re.search(r"(\d+)GB", kind.gpu.upper())
        device = Accelerator(
            id="", name=kind.gpu, memory_mib=int(size[1]) * MIB_OF_GB if size else 0
        )
        places = [-(-machine.places // machine.cores) for machine in there if machine.cores]
        return Capacity(
            cores=kind.cpu,
            memory_mib=kind.memory_mib,
            places=max(places, default=1) * kind.cpu,
            accelerators=(device,) * kind.gpus,
            isolated=any(machine.isolated for machine in there),
            networks=any(machine.networks for machine in there),
            has_mounts=self.share_volumes,
            region=kind.region if _has_regions(there) else None,
        )

    def of(self, resources: Iterable[str]) -> NodeType | None:
        """Return the type of a machine that has these resources of Ray's."""
        names = set(resources)
        return next((kind for kind in self.types if kind.name in names), None)


def _has_regions(there: Iterable[Capacity]) -> bool:
    return any(machine.region is not None for machine in there)
