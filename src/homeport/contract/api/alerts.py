"""Alerts: the value that is watched, and the webhook that gets the message."""

from dataclasses import field

from homeport.contract.dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAlert:
    """An alert to add."""

    name: str
    kind: str  # `errors`, `latency`, `starts`, `canary`, `disk`, `certificate` or `machine`
    url: str = field(repr=False)  # of the webhook; it may hold a secret
    app: str = ""  # the requests or the starts of this app alone
    tag: str = ""  # of this function alone, or of `Class.method`; not for `canary`
    #: errors: percent of the requests; latency: milliseconds of the 99th percentile; starts, canary: how many that failed; disk:
    #: percent that is used; certificate: days that are left; machine: how many do not answer. null: 5, 1000, 3, 1, 90, 7 and 1
    limit: float | None = None
    window_s: float = 300.0  # how far it looks back; errors, latency and starts


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """An alert, and how it is."""

    name: str
    kind: str
    app: str
    tag: str
    limit: float
    window_s: float
    target: str  # the webhook's host; the rest of its URL may be a secret
    created_at: float
    state: str  # `ok` or `firing`
    since: float  # when that began
    text: str = ""  # what it has found last, in words
    waiting: int = 0  # messages that were not delivered yet
    error: str = ""  # why the last delivery failed; empty: it did not


@dataclass(frozen=True, slots=True, kw_only=True)
class AddedAlert:
    """An alert that was added."""

    alert: Alert
    secret: str = field(repr=False)  # the key of the messages' HMAC; it is shown once


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertList:
    """The alerts of an environment."""

    alerts: tuple[Alert, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertTest:
    """How the delivery of a test message went."""

    delivered: bool
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is wrong, or that could be better."""

    what: (
        str  # `database`, `app`, `canary`, `certificate`, `disk`, `machine`, `alert`, `isolation` …
    )
    text: str
    app: str = ""
    hint: str = ""
    needed: bool = True  # false: homeport works without it


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingList:
    """What is wrong, the worst first."""

    findings: tuple[Finding, ...]
