"""Reads the ingress's own fields of a request's head, once, when the head is complete.

The ingress writes these fields and removes those that a visitor has sent under the same names. A visitor
must not set them in another way either: by a trailer (see asgi.py), or by a spelling that becomes the same
key in WSGI's environ, such as `X_Request_Id`.
"""

import itertools
from collections.abc import Iterable
from typing import Any, NamedTuple
from urllib.parse import unquote

METHOD = "x-homeport-method"  # the web method of a class; removed before the app sees the request
OURS = (
    METHOD,
    "x-homeport-hops",
    "x-request-id",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-forwarded-host",
    "x-real-ip",
)
FIELD = METHOD.encode() + b":"  # as the ingress writes it
SCHEMES = {b"http": ("http", "ws"), b"https": ("https", "wss")}


def spellings(names: Iterable[str]) -> frozenset[bytes]:
    """Return the spellings with an underscore that become the same keys in a WSGI environ.

    >>> sorted(spellings(["x-real-ip"]))
    [b'x-real_ip', b'x_real-ip', b'x_real_ip']
    """
    return frozenset(
        "".join(itertools.chain.from_iterable(zip(parts, (*marks, ""), strict=True))).encode()
        for name in names
        for parts in [name.split("-")]
        for marks in itertools.product("-_", repeat=len(parts) - 1)
        if "_" in marks
    )


FORGED = spellings(OURS)
HIDDEN = FORGED | {METHOD.encode()}


class Head(NamedTuple):
    """The values of a request's head that the runner uses."""

    request_id: str | None
    method: str  # the web method that the ingress chose; empty if the function has only one
    chunked: bool  # True if the body has no length
    trace: "tuple[str, str] | None" = None  # `traceparent` and `tracestate`
    capture: str = ""  # what `captured.Capture` takes; empty: the request is not captured


def read(scope: dict[str, Any]) -> Head:
    """Read an ASGI scope's head; change its scheme, client and headers to those that the app shall see.

    The list of headers becomes a copy, so that nothing that keeps the old one can add to it.
    """
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    fields_by_name = dict(headers)
    if HIDDEN.isdisjoint(fields_by_name):
        scope["headers"] = headers.copy()
    else:
        scope["headers"] = [pair for pair in headers if pair[0] not in HIDDEN]
    if (schemes := SCHEMES.get(fields_by_name.get(b"x-forwarded-proto", b""))) is not None:
        scope["scheme"] = schemes[scope["type"] == "websocket"]
    if client := fields_by_name.get(b"x-forwarded-for"):
        # One address: the ingress replaces the field. Were there more, its own is the last.
        scope["client"] = (client.rpartition(b",")[2].strip().decode("latin-1"), 0)
    trace = None
    if (parent := fields_by_name.get(b"traceparent")) is not None:
        trace = (parent.decode("latin-1"), fields_by_name.get(b"tracestate", b"").decode("latin-1"))
    request_id, method = (
        fields_by_name.get(b"x-request-id"),
        fields_by_name.get(b"x-homeport-method"),
    )
    name, capture = split(method.decode("latin-1")) if method else ("", "")
    return Head(
        request_id.decode("latin-1") if request_id is not None else None,
        name,
        b"transfer-encoding" in fields_by_name,
        trace,
        capture,
    )


def split(value: str) -> "tuple[str, str]":
    """Return the two things that the ingress says in the field METHOD: the method's name, and how to capture the request.

    >>> split("a%20b"), split("add.0f5c.65536"), split(".0f5c.65536")
    (('a b', ''), ('add', '0f5c.65536'), ('', '0f5c.65536'))
    """
    name, _, capture = value.partition(".")  # a name has no dot, and may have any letters
    return unquote(name), capture


def without_method(data: bytes, end: int) -> "tuple[str, str, bytes]":
    r"""Return what `split` returns of a head of `end` bytes, and the data without that field.

    >>> without_method(b"GET / HTTP/1.1\r\nx-homeport-method: a%20b\r\nhOst: x\r\n\r\nbody", 53)
    ('a b', '', b'GET / HTTP/1.1\r\nhOst: x\r\n\r\nbody')
    """
    name, capture, lines_kept = "", "", []
    for line in data[:end].split(b"\r\n"):
        if line.lower().startswith(FIELD):
            name, capture = split(line[len(FIELD) :].strip().decode("latin-1"))
        else:
            lines_kept.append(line)
    return name, capture, b"\r\n".join(lines_kept) + data[end:]
