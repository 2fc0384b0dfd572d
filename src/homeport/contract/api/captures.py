"""Captures: endpoints whose requests are recorded whole for a while, and the requests that were."""

from homeport.contract.captured import Captured
from homeport.contract.dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCapture:
    """An endpoint to capture."""

    app: str
    tag: str = ""  # of its endpoint; empty: its only one
    for_s: float = 600.0  # it ends by itself after that
    requests: int = 100  # or after so many requests
    body_bytes: int = 64 * 1024  # that are kept of each body


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """An endpoint that is captured now."""

    app: str
    tag: str
    until: float  # 0 for a mirror
    taken: int  # requests that were captured
    left: int  # and those that still may be
    body_bytes: int
    share: int | None = None  # of a mirror (`serve --mirror`): so many of 10,000 requests


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedInfo:
    """One captured request."""

    id: str  # its `X-Request-Id`
    at: float
    app: str
    tag: str
    version: int
    method: str
    target: str  # the path and the query
    status: int
    took_ms: int  # inside the container


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureList:
    """What is captured, and what was."""

    running: tuple[Capture, ...]
    captured: tuple[CapturedInfo, ...]  # the oldest first


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedRequest:
    """A captured request with its response. Bodies are in Base64; nothing in it has credentials."""

    captured: Captured
    url: str  # of its endpoint now; empty: it serves no more
    local_url: str  # the same by a port of its own


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorQuery:
    """An endpoint to mirror."""

    app: str = ""
    tag: str = ""  # of its endpoint; empty: its only one
    share: int = 500  # so many of 10,000 requests


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirrored:
    """A copy of a request, with the response that its visitor got."""

    captured: Captured
    lost: int = 0  # copies before it for which there was no room


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureStopped:
    """A capture that was ended."""

    taken: int  # requests that were captured
