"""Dicts and queues, which containers share.

Their keys and values are bytes, and pickles for homeport's own SDK. They travel as parts (`contract/frames.py`),
with the content type `application/octet-stream`.
"""

from homeport.contract.dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """A dict or a queue."""

    id: str  # `di-…` or `qu-…`; it is another one after a deletion, also under the same name
    name: str  # empty: an ephemeral one, which goes with the program that made it
    created_at: float
    #: How many entries or values it has; null if the request did not ask for it.
    length: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectList:
    """Every dict, or every queue, that has a name."""

    objects: tuple[StoredObject, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewObject:
    """A dict or a queue to create."""

    name: str = ""  # empty: an ephemeral one, which is deleted when the server starts again
    allow_existing: bool = False  # answer with the one of that name if there is one


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """A number of entries or values."""

    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DictPut:
    """Options for setting entries."""

    only_new: bool = False  # `1` leaves entries that exist as they are


@dataclass(frozen=True, slots=True, kw_only=True)
class DictPage:
    """Which entries of a dict."""

    after: str = ""  # what the page before has told; empty: from the beginning
    keys: bool = False  # `1`: keys alone


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePut:
    """Options for adding values."""

    partition: str = ""  # empty: the default one
    ttl_s: float = 24 * 3600.0  # the partition's time to live after its last put
    wait_s: float = 0.0  # how long to wait for room, at most 30


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueGet:
    """Which values to take."""

    partition: str = ""
    count: int = 1  # at most
    wait_s: float = 0.0  # how long to wait for the first, at most 30


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePart:
    """Which values of a queue."""

    partition: str = ""
    every: bool = False  # `1`: those of all partitions


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePage:
    """Which values of a queue to look at."""

    partition: str = ""
    after: str = ""  # what the page before has told; empty: from the beginning
    wait_s: float = 0.0  # how long to wait for the first, at most 30
