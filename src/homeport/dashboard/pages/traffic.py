"""The requests of the last minutes, by endpoint."""

from homeport.contract.dataclass import dataclass
from homeport.dashboard.pages.page import Visit


@dataclass(frozen=True, slots=True, kw_only=True)
class Recent:
    """What happened at one endpoint in the last minutes."""

    per_s: float = 0.0  # requests, in the last step that is over
    requests: int = 0
    errors: int = 0  # answered with 5xx
    line: tuple[int, ...] = ()  # requests by step; empty: none


async def recent(_visit: Visit) -> dict[tuple[str, str], Recent]:
    """Return what happened, by app and tag; nothing of what was quiet."""
    return {}
