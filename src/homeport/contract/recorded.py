"""A request that has ended, as one line: the ingress writes it, the state keeps it, and `decode` reads it.

A line has the words of `WORDS`, with blanks between them. The target is last, because the visitor chooses it.
"""

import re
from collections.abc import Sequence

from homeport.contract import tracing
from homeport.contract.traffic import RequestRecord

#: Times are in milliseconds; -1 for a part that was not reached. `-` stands for a word that is missing.
WORDS = (
    "kind",  # `visit`, or `call` for a function's call
    "ended",  # since the epoch
    "id",  # the X-Request-Id
    "head",  # until the head had arrived, and the time in which the request was parked
    "wait",  # in a queue for a slot
    "connect",  # until the container had the connection
    "first",  # from there to the first byte of the response
    "total",
    "status",
    "sent",  # bytes of the response, its head included
    "received",  # bytes of the request, likewise
    "how",  # how it ended: HAProxy's termination state
    "container",
    "endpoint",
    "parked",  # how long no container was ready; missing: there was one
    "trace",  # see `contract/tracing.py`; missing: traces are not exported
    "client",  # the visitor's address; missing: it is not recorded
    "method",
    "target",  # the path, and the query if queries are recorded
)
#: The place of each word.
(KIND, ENDED, ID, HEAD, WAIT, CONNECT, FIRST, TOTAL, STATUS, SENT, RECEIVED, HOW, CONTAINER, ENDPOINT, PARKED, TRACE, CLIENT,
    METHOD, TARGET) = range(len(WORDS))  # fmt: skip
MISSING = "-"

#: HAProxy's first letter (configuration manual, 8.5) -> why the request ended early.
ENDINGS = {
    "C": "visitor left",
    "c": "visitor too slow",
    "S": "container ended",
    "s": "timeout",
    "R": "no resources",
    "I": "ingress failed",
    "D": "container ended",
}
_PARTS = ("received", "parked", "queued", "connected", "app", "stream")


def fields(line: str) -> list[str] | None:
    """Return the words of a line; None for another text."""
    words = line.split(" ", len(WORDS) - 1)
    if len(words) != len(WORDS) or not (words[ENDED].isdigit() and words[TOTAL].isdigit()):
        return None
    return words


def decode(words: Sequence[str]) -> RequestRecord:
    """Return the request that a line's words describe."""
    # HAProxy writes characters that are not printable as `#0A`; a URL writes them as `%0A`.
    path, _, query = re.sub(r"#([0-9A-F]{2})", r"%\1", words[TARGET]).partition("?")
    ended_ms, total_ms = int(words[ENDED]), int(words[TOTAL])
    ending = ENDINGS.get(words[HOW][:1], "")
    # If the visitor left before the response, HAProxy records 400.
    unanswered = ending == ENDINGS["C"] and not words[FIRST].isdigit()
    return RequestRecord(
        id=words[ID],
        kind=words[KIND],
        at=(ended_ms - total_ms) / 1000,
        endpoint=words[ENDPOINT],
        method=words[METHOD],
        path=path,
        query=query,
        client="" if words[CLIENT] == MISSING else words[CLIENT],
        status=0 if unanswered else _number(words[STATUS]),
        duration_ms=total_ms,
        sent_bytes=_number(words[SENT]),
        received_bytes=_number(words[RECEIVED]),
        container=container(words),
        cold=words[PARKED] != MISSING,
        parts_ms=_parts(words, total_ms),
        ended=ending,
        trace=tracing.of_word(words[TRACE], words[ID]),
    )


def container(words: Sequence[str]) -> str:
    """Return the container that answered; empty if the ingress did."""
    name = words[CONTAINER]
    return "" if name == MISSING or name.startswith("<") else name


def _parts(words: Sequence[str], total_ms: int) -> dict[str, int]:
    """Return the parts of a request, in their order; together they are its whole time."""
    parked = _number(words[PARKED])
    head, *following = (int(words[number]) for number in (HEAD, WAIT, CONNECT, FIRST))
    if head >= 0:
        reached = [max(head - parked, 0), parked, *following]
    elif words[PARKED] == MISSING:
        reached = [-1]  # it ended before its head had arrived
    else:
        reached = [0, -1]  # it ended before a container was ready
    parts: dict[str, int] = {}
    left_ms = total_ms
    for name, took in zip(_PARTS, [*reached, -1], strict=False):
        parts[name] = left_ms if took < 0 else min(took, left_ms)
        left_ms -= parts[name]
        if took < 0:  # the last part that it has reached
            break
    return {name: took for name, took in parts.items() if took}


def _number(word: str) -> int:
    return int(word) if word.isdigit() else 0
