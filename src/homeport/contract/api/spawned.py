"""Spawned calls. Inputs and outcomes are bytes: pickles that the SDK of the caller and of the container read."""

from homeport.contract.dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCall:
    """One input of a spawned call."""

    id: str  # `fc-…`
    place: int  # of the input, in a `spawn_map`; else 0
    app: str
    function: str  # `hello`, or `Cls.method`
    state: str  # waiting, running, done, failed or cancelled
    attempt: int  # the first is 0
    container: str = ""  # that runs it, or that has run it
    parent: str = ""  # the call that made it
    note: str = ""  # why it waits again
    outcome: str = ""  # value, error, timeout, ended, refused or cancelled
    created_at: float
    started_at: float | None = None
    ended_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallList:
    """Some calls."""

    calls: tuple[StoredCall, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallInfo:
    """A call: how many inputs it has, and its state, which is the last of these that one of them is in."""

    state: str
    inputs: tuple[StoredCall, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallsQuery:
    """Which calls to list, the newest first."""

    app: str = ""
    state: str = ""
    tail: int = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCall:
    """A call to make; the body has its inputs (`contract/frames.py`), one for each part."""

    id: str = ""  # `fc-` and 32 to 48 hexadecimal digits; the same id again is the same call
    app: str = ""
    function: str = ""  # `hello`, or `Cls.method`
    scope: str = ""  # the session of the app; empty: the deployed app
    parameters: str = ""  # of the class, canonical
    parent: str = ""  # the call that makes it
    python: str = ""  # the caller's, `3.12`
    trace: str = ""  # that it continues: `traceparent`, and perhaps a blank and `tracestate`
    #: The digest of its options (contract/variants.py), which are the body's first part then.
    variant: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeQuery:
    """Which outcome, and how long to wait for it."""

    place: str = "0"
    wait_s: float = 0.0  # at most 30


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelQuery:
    """Options for cancelling a call."""

    terminate: bool = False  # `1` ends the containers that run it


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a container says of an attempt: that it claims it, or how it ended."""

    call: str = ""
    place: str = "0"
    attempt: str = "0"
    container: str = ""  # that claims it
    kind: str = ""  # of its outcome: value, error or timeout; empty: this is a claim
    python: str = ""  # that wrote its outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """What became of each report: 200, or the status of an error, such as 409 for a claim of an attempt that is another container's."""

    statuses: tuple[int, ...]
