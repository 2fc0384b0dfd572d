"""What is stored about a node of another machine."""

from collections.abc import Awaitable, Callable

from homeport.contract.dataclass import dataclass


async def _note_nothing(_generation: int, _away: bool) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What is stored about a node of another machine, and how to store it."""

    generation: int = 0  # orders of earlier generations are fenced
    away: bool = False  # it was given up, and has not been back since
    #: Stores the generation, and whether the node is away.
    note: Callable[[int, bool], Awaitable[None]] = _note_nothing
