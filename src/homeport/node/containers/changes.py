"""What the node tells of its containers, each change with its number (contract/listing.py)."""

import secrets
from collections.abc import Callable

from homeport.contract.capacity import Capacity
from homeport.contract.container import Container, State
from homeport.contract.listing import Change, Listing, Mark

ENDED = (State.FAILED, State.GONE)


class Changes:
    """Numbers the changes, and keeps what the last one said of each container."""

    def __init__(self) -> None:
        self.mark = Mark(run=secrets.token_hex(8))
        self.generation = 0  # the agent takes no order of an earlier one
        self.hear: Callable[[Change], None] = lambda _change: None
        self._told: dict[str, Container] = {}

    def tell(self, container: Container) -> None:
        """Say how a container is now."""
        if container.state in ENDED:
            self._told.pop(container.id, None)
        else:
            self._told[container.id] = container
        self.mark = Mark(run=self.mark.run, number=self.mark.number + 1)
        self.hear(Change(mark=self.mark, container=container))

    def listing(self, capacity: Capacity) -> Listing:
        """Return what all changes so far come to."""
        return Listing(
            mark=self.mark,
            capacity=capacity,
            generation=self.generation,
            containers=tuple(self._told.values()),
        )
