"""What the machines lack, and what the machines of a Ray cluster are called as nodes: PURE."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

from homeport.contract.capacity import Capacity
from homeport.contract.growth import Bundle, RayMachine
from homeport.contract.manifest import FunctionSpec
from homeport.control.fleet import autoscaler, scheduler
from homeport.control.fleet.addable import Addable
from homeport.control.fleet.pool import Pool

MOST_BUNDLES = 100  # that are asked for at once
PREFIX = "ray-"


def bundles(
    pools: Iterable[Pool], capacities: Sequence[Capacity], addable: Addable, now: float
) -> list[Bundle]:
    """Return a bundle for each container that is wanted, has no place, and could have one on a machine that Ray adds.

    There are at most `MOST_BUNDLES`.
    """
    lacking: list[Bundle] = []
    for pool in pools:
        if not (pool.lacks or scheduler.impossible(pool.function, capacities)):
            continue
        wanted = autoscaler.wanted(pool.bounds, pool.needed, pool.peak.at(now))
        if wanted <= pool.alive:
            continue
        if kind := addable.fitting(pool.function, capacities):
            lacked = addable.bundle(kind, pool.function, capacities)
        elif addable.may_help(pool.function, capacities):
            lacked = bundle(pool.function, capacities)
        else:
            continue
        lacking += [lacked] * (wanted - pool.alive)
    return lacking[:MOST_BUNDLES]


def full(machine: RayMachine, addable: Addable) -> Bundle | None:
    """Return the bundle that a machine with containers counts as: else Ray would think that what is lacking has room there."""
    if kind := addable.of(machine.resources):
        return Bundle(kind=kind.name, share=1.0)
    return Bundle(cpus=machine.cpus) if machine.cpus else None


def bundle(function: FunctionSpec, capacities: Iterable[Capacity]) -> Bundle:
    """Return the resources of one container. It counts at least as much CPU as a place is of a machine."""
    share = max(
        (machine.cores / machine.places for machine in capacities if machine.places), default=0.01
    )
    gpus = function.gpu[0].partition(":")[2] or "1" if function.gpu else "0"
    return Bundle(
        cpus=round(max(function.cpu[0] if function.cpu else 0.0, share), 3),
        memory_mib=function.memory_mib[0] if function.memory_mib else 0,
        gpus=int(gpus),
    )


def names(machines: Sequence[RayMachine]) -> dict[str, str]:
    """Return the name of the node of each machine but the control plane's, by Ray's id.

    It is the same after Ray has started again there, and another one only if two machines have one name.

    >>> a, b = (RayMachine(id=f"{n}0abcdef", name="10.0.0.1", host="10.0.0.1") for n in (1, 2))
    >>> names([a]), names([a, b])["20abcdef"]
    ({'10abcdef': 'ray-10-0-0-1'}, 'ray-10-0-0-1-20abcdef')
    """
    others = [machine for machine in machines if not machine.is_own]
    same = Counter(machine.name for machine in machines)
    return {
        machine.id: PREFIX
        + _slug(machine.name)
        + (f"-{machine.id[:8]}" if same[machine.name] > 1 else "")
        for machine in others
    }


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:24].strip("-") or "machine"
