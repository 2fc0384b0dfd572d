"""Which `traceparent` is continued (W3C Trace Context, 3.2), and what a line of the log says of a trace."""

import pytest

from homeport.contract import tracing
from homeport.contract.tracing import Trace

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
REQUEST = "8f14e45f-ceea-467f-a9c1-2b3c4d5e6f70"


@pytest.mark.parametrize(
    ("parent", "valid"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", True),
        (f"00-{TRACE}-{SPAN}-ff", True),
        (f"cc-{TRACE}-{SPAN}-01", True),
        (f"cc-{TRACE}-{SPAN}-01-what the future will be like", True),
        (f"cc-{TRACE}-{SPAN}-01.what", False),
        (f"00-{TRACE}-{SPAN}-01-more", False),
        (f"00-{TRACE}-{SPAN}-01-", False),
        (f"ff-{TRACE}-{SPAN}-01", False),
        (f"00-{'0' * 32}-{SPAN}-01", False),
        (f"00-{TRACE}-{'0' * 16}-01", False),
        (f"00-{TRACE.upper()}-{SPAN}-01", False),
        (f"00-{TRACE[1:]}-{SPAN}-01", False),
        (f"00-{TRACE}-{SPAN}1-01", False),
        (f"00-{TRACE}-{SPAN}-1", False),
        (f"00-{TRACE}-{SPAN}", False),
        (f" 00-{TRACE}-{SPAN}-01", False),
        (f"00-{TRACE}-{SPAN}-01\n", False),
        (f"00-{TRACE}-{SPAN}-01,00-{TRACE}-{SPAN}-01", False),
        ("", False),
    ],
)
def test_only_a_valid_traceparent_is_continued(parent, valid):
    assert valid is tracing.is_valid(parent)


@pytest.mark.parametrize(
    ("word", "trace"),
    [
        ("-", None),
        ("1", Trace(id=REQUEST.replace("-", ""))),
        ("0", Trace(id=REQUEST.replace("-", ""), sampled=False)),
        (f"{TRACE}-{SPAN}-01", Trace(id=TRACE, parent=SPAN)),
        (f"{TRACE}-{SPAN}-02", Trace(id=TRACE, parent=SPAN, sampled=False)),
        (f"{TRACE}-{SPAN}-03", Trace(id=TRACE, parent=SPAN)),
        (f"{TRACE}-{SPAN}", None),
        ("what", None),
    ],
)
def test_a_word_of_the_line_says_which_trace_it_is(word, trace):
    assert trace == tracing.of_word(word, REQUEST)


def test_spans_of_a_request_have_ids_of_their_own():
    assert [f"{REQUEST[-12:]}0001", f"{REQUEST[-12:]}0100"] == [
        tracing.span_id(REQUEST, number) for number in (1, 256)
    ]


@pytest.mark.parametrize("state", ["", "a=1,b=2"])
def test_a_trace_survives_as_text(state):
    parent = tracing.header(TRACE, SPAN, sampled=True)
    told = {"traceparent": parent, "tracestate": state} if state else {"traceparent": parent}

    assert told == tracing.carried(f"{parent} {state}".strip())


@pytest.mark.parametrize("text", ["", "x", f"00-{TRACE}-{SPAN}-01 a=1\r\nX: y"])
def test_text_that_is_no_trace_becomes_no_field(text):
    assert {} == tracing.carried(text)
