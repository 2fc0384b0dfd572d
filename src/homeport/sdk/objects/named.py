"""The common parts of volumes, dicts, queues and secrets: the rules for names, their facts, and the order of their
lists.
"""

from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Any, TypeVar

from homeport.contract import names
from homeport.contract.dataclass import dataclass
from homeport.sdk.exception import InvalidError

T = TypeVar("T", bound="Info")


@dataclass(frozen=True)
class Info:
    """Facts of an object of the server."""

    name: str | None
    created_at: datetime
    created_by: str | None

    @classmethod
    def of(cls: "type[T]", name: str, created_at: float) -> T:  # noqa: PYI019 - Self is 3.11
        """Return the facts from the server's answer; an object without a name has the empty one, the time is in
        seconds.
        """
        at = datetime.fromtimestamp(created_at, timezone.utc)
        return cls(name=name or None, created_at=at, created_by=None)


def check(kind: str, name: Any) -> None:
    """Raise `InvalidError` for a name that is not allowed; `kind` is `Volume`, `Dict` or `Queue`."""
    if not isinstance(name, str) or not names.is_volume_name(name):
        raise InvalidError(f"Invalid {kind} name: '{name}'.")


def newest(
    objects: "Iterable[tuple[str, float]]",
    *,
    created_before: "datetime | str | None",
    max_objects: "int | None",
) -> "list[str]":
    """Return the names of objects, each given with its time of creation in seconds; the newest first.

    >>> newest([("a", 1.0), ("b", 2.0)], created_before=None, max_objects=1)
    ['b']
    """
    before = float("inf")
    if created_before is not None:
        if isinstance(created_before, str):
            created_before = datetime.fromisoformat(created_before)
        before = created_before.timestamp()
    chosen = sorted((pair for pair in objects if pair[1] < before), key=lambda pair: -pair[1])
    return [name for name, _ in chosen[:max_objects]]
