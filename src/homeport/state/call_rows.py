"""The data of a spawned call in the database: its row, its states and its outcome."""

from homeport.contract.dataclass import dataclass
from homeport.state import tables
from homeport.state.scope import MAIN, Placed

WAITING, RUNNING, DONE, FAILED, CANCELLED = "waiting", "running", "done", "failed", "cancelled"
ENDED = (DONE, FAILED, CANCELLED)
INLINE_BYTES = 16 * 1024  # a larger input or outcome is a file
#: The columns of a row, without those of any size.
COLUMNS = [column for column in tables.calls.c if column.name not in ("input", "outcome")]
NAMES = [column.name for column in COLUMNS]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRow(Placed):
    """A call without its input and its outcome."""

    id: str
    place: int = 0
    endpoint: str
    app: str
    tag: str
    parameters: str = ""
    parent: str = ""
    python: str = ""
    state: str = WAITING
    attempt: int = 0
    container: str = ""
    due_at: float = 0.0
    note: str = ""
    kind: str = ""
    outcome_python: str = ""
    created_at: float = 0.0
    started_at: float | None = None
    ended_at: float | None = None
    options: bytes | None = None  # of a variant, sealed
    trace: str = ""
    workspace: str = MAIN.workspace
    environment: str = MAIN.environment


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The outcome of a call."""

    kind: str  # value, error, timeout, ended, refused, cancelled
    python: str
    body: bytes


def is_small(body: bytes) -> bool:
    """Return whether an input or an outcome is kept in its row."""
    return len(body) <= INLINE_BYTES
