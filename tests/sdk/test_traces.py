"""Which trace a call continues: that of OpenTelemetry's current span, else that of the request that is being answered."""

import contextvars
import sys
import types

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState

from homeport.contract import calls
from homeport.sdk import context, traces
from homeport.sdk.objects import bridge, calling
from homeport.sdk.objects.target import Target

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


@pytest.fixture(autouse=True)
def _no_trace():
    token = context.trace.set(None)
    yield
    context.trace.reset(token)


def test_outside_of_a_trace_there_is_nothing_to_continue():
    assert {} == traces.fields()


@pytest.mark.parametrize(
    ("came", "fields"),
    [
        ((PARENT, ""), {"traceparent": PARENT}),
        ((PARENT, "a=1"), {"traceparent": PARENT, "tracestate": "a=1"}),
        (("what a visitor has made up", "a=1"), {}),
    ],
)
@pytest.mark.parametrize("imported", [True, False])
def test_the_request_that_is_answered_is_continued(monkeypatch, came, fields, imported):
    if not imported:
        monkeypatch.delitem(sys.modules, "opentelemetry.trace")
    context.trace.set(came)

    assert fields == traces.fields()
    assert imported is ("opentelemetry.trace" in sys.modules)


def test_the_current_span_comes_first():
    context.trace.set((PARENT, "a=1"))
    with TracerProvider().get_tracer("x").start_as_current_span("mine") as span:
        own = span.get_span_context()
        expected = f"00-{own.trace_id:032x}-{own.span_id:016x}-01"

        assert {"traceparent": expected} == traces.fields()
    assert {"traceparent": PARENT, "tracestate": "a=1"} == traces.fields()


def test_an_unsampled_span_stays_so_with_its_state():
    remote = SpanContext(
        int(TRACE, 16), int(SPAN, 16), True, TraceFlags(0), TraceState([("a", "1"), ("b", "2")])
    )
    with trace.use_span(NonRecordingSpan(remote)):
        assert {"traceparent": f"{PARENT[:-1]}0", "tracestate": "a=1,b=2"} == traces.fields()


def test_a_module_that_is_only_half_there_changes_nothing(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", types.ModuleType("opentelemetry.trace"))
    context.trace.set((PARENT, ""))

    assert {"traceparent": PARENT} == traces.fields()


def test_a_call_says_so():
    context.trace.set((PARENT, ""))
    request = calling.request(Target(app="shop", tag="f", key="k"), (), {}, calls.VALUE)

    assert PARENT == request.fields["traceparent"]


def test_the_calls_of_a_blocking_map_are_in_the_trace_of_their_caller():
    context.trace.set((PARENT, ""))

    async def work(items):
        async for _ in items:
            yield traces.fields()

    assert [{"traceparent": PARENT}] * 2 == list(bridge.run([1, 2], work))
    assert {} == contextvars.Context().run(traces.fields)
