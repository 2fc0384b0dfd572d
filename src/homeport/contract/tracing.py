"""W3C Trace Context: the ids of a request's trace and spans, and how they travel.

A request that brings a valid `traceparent` continues that trace; for another one the ingress makes a trace, whose id is
the request's own without dashes. The ids of a request's spans are the last 12 digits of its own id and a number of
four digits, so nothing has to be remembered for them.

A word in the request's line (`contract/recorded.py`) says which trace it is: the visitor's `<trace>-<span>-<flags>`, `1`
for a trace that the ingress has made, or `0` for one that is not exported.
"""

import re

from homeport.contract.dataclass import dataclass

PARENT, STATE = "traceparent", "tracestate"
OWN, UNSAMPLED = MADE = ("1", "0")
#: A valid `traceparent` (W3C Trace Context, 3.2): no id is all zeros, and version `ff` is invalid. Later versions may
#: have more after the flags.
VALID = (
    "^(?!ff)(?:00(?=.{53}$)|(?!00)[0-9a-f]{2})-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-"
    "[0-9a-f]{2}(?:-.*)?$"
)
WORD_LENGTH = 52  # of the visitor's ids and flags
REQUEST = 1  # the number of the span of a whole request; the container's `traceparent` names it
_WORD = re.compile("([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """The trace of one request."""

    id: str  # 32 hexadecimal digits
    #: The span of the visitor, 16 of them; empty: the trace begins with this request.
    parent: str = ""
    sampled: bool = True  # False: it is not exported


def is_valid(parent: str) -> bool:
    """Return whether a `traceparent` is to be continued.

    >>> is_valid("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    True
    >>> is_valid("00-00000000000000000000000000000000-00f067aa0ba902b7-01")
    False
    """
    return re.match(VALID, parent) is not None and not parent.endswith("\n")


def carried(text: str) -> "dict[str, str]":
    """Return the fields that continue a trace; `text` is a `traceparent`, with or without a blank and a `tracestate`.

    >>> carried("not a trace")
    {}
    """
    parent, _, state = text.partition(" ")
    if not is_valid(parent) or not state.isascii() or not state.replace("\t", "").isprintable():
        return {}
    return {PARENT: parent, STATE: state} if state else {PARENT: parent}


def of_word(word: str, request: str) -> "Trace | None":
    """Return the trace that a word of a request's line describes.

    >>> of_word("1", "4bf92f35-77b3-4da6-a3ce-929d0e0e4736").id
    '4bf92f3577b34da6a3ce929d0e0e4736'
    """
    if word in MADE:
        return Trace(id=request.replace("-", ""), sampled=word == OWN)
    if (match := _WORD.fullmatch(word)) is None:
        return None
    return Trace(id=match[1], parent=match[2], sampled=int(match[3], 16) & 1 == 1)


def span_id(request: str, number: int) -> str:
    """Return the id of one of a request's spans; `request` is its X-Request-Id.

    >>> span_id("4bf92f35-77b3-4da6-a3ce-929d0e0e4736", REQUEST)
    '929d0e0e47360001'
    """
    return f"{request[-12:]}{number:04x}"


def header(trace: str, span: str, *, sampled: bool) -> str:
    """Return the `traceparent` that names this span.

    >>> header("4bf92f3577b34da6a3ce929d0e0e4736", "929d0e0e47360001", sampled=True)
    '00-4bf92f3577b34da6a3ce929d0e0e4736-929d0e0e47360001-01'
    """
    return f"00-{trace}-{span}-{int(sampled):02x}"
