"""Reports the changes of a node's containers, each with its number (contract/listing.py)."""

import secrets
from collections.abc import Callable

from homeport.contract.capacity import Capacity
from homeport.contract.container import Container, State
from homeport.contract.listing import Change, Listing, Mark

ENDED = (State.FAILED, State.GONE)


class Changes:
    """Numbers the changes, and keeps the last state of each container."""

    def __init__(self) -> None:
        self.mark = Mark(run=secrets.token_hex(8))
        self.generation = 0  # the agent refuses orders of an earlier generation
        self.hear: Callable[[Change], None] = lambda _change: None
        self._told: dict[str, Container] = {}

    def tell(self, container: Container) -> None:
        """Report the present state of a container."""
        if container.state in ENDED:
            self._told.pop(container.id, None)
        else:
            self._told[container.id] = container
        self.mark = Mark(run=self.mark.run, number=self.mark.number + 1)
        self.hear(Change(mark=self.mark, container=container))

    def listing(self, capacity: Capacity) -> Listing:
        """Return the list that results from all changes so far."""
        return Listing(
            mark=self.mark,
            capacity=capacity,
            generation=self.generation,
            containers=tuple(self._told.values()),
        )
