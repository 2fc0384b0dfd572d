"""Finds the trace of the code that makes a call, so that the call continues it (W3C Trace Context).

It is that of the current span of OpenTelemetry, if this process has imported that; else that of the request which is
being answered. Nothing here imports OpenTelemetry.
"""

import sys

from homeport.contract import tracing
from homeport.sdk import context


def fields() -> "dict[str, str]":
    """Return the fields of a request that continue the trace; none outside of one."""
    current = _of_opentelemetry() if "opentelemetry.trace" in sys.modules else None
    if current is None:
        current = context.trace.get()
        if current is None or not tracing.is_valid(current[0]):
            return {}
    parent, state = current
    return {tracing.PARENT: parent, tracing.STATE: state} if state else {tracing.PARENT: parent}


def _of_opentelemetry() -> "tuple[str, str] | None":
    """Return the current span's `traceparent` and `tracestate`; None without a span."""
    try:
        span = sys.modules["opentelemetry.trace"].get_current_span().get_span_context()
        if not span.is_valid:
            return None
        trace, own = f"{span.trace_id:032x}", f"{span.span_id:016x}"
        parent = tracing.header(trace, own, sampled=bool(span.trace_flags & 1))
        return parent, span.trace_state.to_header()
    except Exception:
        # Another thread imports it at this moment, or it is another library of that name.
        return None
