"""What a node tells of its containers, so that another process can keep a copy of its list.

Every change has a number, one more than the change before. Whoever has a list and all changes after it knows
what the node knows. After a gap, or when the node's agent has begun again, ask for the list once more.
"""

from dataclasses import dataclass

from homeport.contract.capacity import Capacity
from homeport.contract.container import Container


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A point in the sequence of a node's changes."""

    run: str  # of the agent: another text each time that it begins, and the numbers begin again
    number: int = 0  # of the last change


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A container as it is now; FAILED and GONE are the last that is told of it."""

    mark: Mark  # that of this change
    container: Container


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """All that a node has."""

    mark: Mark  # that of the last change in it
    capacity: Capacity
    generation: int = 0  # the node refuses orders of an earlier one: see `Node.fence`
    containers: tuple[Container, ...] = ()  # those that are not gone
