"""The starts of containers."""

from dataclasses import field

from homeport.contract.dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdStart:
    """The start of one container, ready or failed.

    The parts of `timings_ms` follow each other without a gap: parked, scheduled, forked, imported, entered,
    listening, attached, first_byte. A part that was not reached, or is not known, is not there.
    """

    at: float  # when the first request came that waited for the container
    app: str
    function: str
    container: str
    revision: str
    origin: str  # `fresh`, `forked` or `snapshot`
    why_fresh: str = ""  # why it was not forked
    failed: str = ""  # why it did not become ready
    timings_ms: dict[str, float] = field(default_factory=dict)  # the parts, by name
    imports_ms: dict[str, float] = field(default_factory=dict)  # the slowest imports, by module
    total_ms: float = 0.0  # the sum of the parts


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdStartList:
    """The starts of an app's containers, the newest last."""

    cold_starts: tuple[ColdStart, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdStartQuery:
    """Which cold starts are wanted."""

    tail: int = 100  # the last so many; no more than a hundred of an app are kept
    function: str = ""  # of this function alone
