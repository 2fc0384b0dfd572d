"""The audit log: who changed what."""

from homeport.contract.dataclass import dataclass

MOST_ROWS = 10_000  # in one answer


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One change, or a try of one. No entry holds a secret's value.

    Texts have printable characters alone: others are written as `\\u001b`.
    """

    id: int = 0  # entries of one server are numbered in their order
    at: float = 0.0
    by: str  # `socket` (the server's own user), `token`, `container`, `server`, or `stranger` (a refused login)
    user: str = ""  # of the token
    token: str = ""  # the token's id; empty for the token of the settings
    source: str = ""  # the address that it came from; empty: this machine
    action: str  # `app deploy`, `secret create`, `token delete`, `login refused`, …
    result: (
        str  # `ok`, the kind of the error, `begun`, or `left`: the command ended before its answer
    )
    workspace: str = ""  # empty: the whole server
    environment: str = ""  # empty: the whole workspace
    app: str = ""
    target: str = ""  # what was changed


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditList:
    """Entries of the audit log, the newest last."""

    entries: tuple[AuditEntry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditQuery:
    """Which entries are wanted: those for which everything that is given holds."""

    since: float = 0.0  # not older than this
    user: str = ""  # a user, a token's id, or a kind of `by`
    app: str = ""
    environment: str = ""
    tail: int = 100  # the last so many, at most 10,000
