"""A node's list of containers and its changes, so that another process can keep a copy of the list.

Each change has a number, one more than the change before. A list and all changes after it give the node's
present list. After a gap in the numbers, or a new start of the node's agent, the copy asks for the list again.
"""

from homeport.contract.capacity import Capacity
from homeport.contract.container import Container
from homeport.contract.dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A point in the sequence of a node's changes."""

    run: str  # of the agent: it gets a new text each time that it starts, and its numbers start again
    number: int = 0  # of the last change


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """The present state of a container; FAILED and GONE are the last states that are reported."""

    mark: Mark  # that of this change
    container: Container


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """All containers of a node."""

    mark: Mark  # that of the last change in it
    capacity: Capacity
    generation: int = 0  # the node refuses orders of an earlier generation: see `Node.fence`
    containers: tuple[Container, ...] = ()  # those that are not gone
