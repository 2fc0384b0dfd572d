"""Reads a container's events from its report, and checks them, because user code can write there."""

import math
import re
from typing import Any

from homeport.contract import codec
from homeport.contract.container import KINDS, Event
from homeport.contract.sizes import MIB

MAX_BYTES = MIB  # of one event
MAX_TEXT = 64 * 1024
MAX_PARTS = 100
MAX_MODULES = 20_000
MAX_MS = 1e9
MAX_HELD = 1_000_000
TUNNEL = re.compile(r"[0-9a-f]{20}")


def read(line: bytes) -> Event:
    """Return the event in a line; `ValueError` if it is not one."""
    try:
        event: Event = codec.loads(Event, line)
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise ValueError("it is not an event") from None
    if event.kind not in KINDS:
        raise ValueError("it is of no known kind")
    texts = (event.reason, event.traceback, event.phase)
    right = (
        all(isinstance(text, str) and len(text) <= MAX_TEXT for text in texts)
        and _are_times(event.timings_ms)
        and _are_times(event.imports_ms)
        and len(event.modules) <= MAX_MODULES
        and all(isinstance(name, str) and _is_module(name) for name in event.modules)
        and type(event.held) is int
        and 0 <= event.held <= MAX_HELD
        and _is_tunnel(event)
    )
    if not right:
        raise ValueError(f"a part of its `{event.kind}` is not what it should be")
    return event


def _is_tunnel(event: Event) -> bool:
    """Return whether the name and the port of a tunnel can be right; other events have none."""
    if event.kind not in ("tunnel", "closed"):
        return (event.tunnel, event.port) == ("", 0)
    lowest = 1 if event.kind == "tunnel" else 0
    return (
        isinstance(event.tunnel, str)
        and bool(TUNNEL.fullmatch(event.tunnel))
        and type(event.port) is int
        and lowest <= event.port <= 65535
    )


def _are_times(times: Any) -> bool:
    return len(times) <= MAX_PARTS and all(
        type(ms) in (int, float) and math.isfinite(ms) and 0 <= ms <= MAX_MS
        for ms in times.values()
    )


def _is_module(name: str) -> bool:
    return len(name) <= 512 and all(part.isidentifier() for part in name.split("."))
