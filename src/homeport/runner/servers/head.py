"""What the ingress says of a request, beside what the visitor says: read once, when the head is complete.

The ingress writes these fields itself and removes what a visitor wrote under their names. A visitor must not
reach them in another way either: by a trailer (see serve.py), or by a spelling that WSGI's environ cannot
tell apart, such as `X_Request_Id`.
"""

import itertools
from collections.abc import Iterable
from typing import Any, NamedTuple
from urllib.parse import unquote

METHOD = "x-homeport-method"  # which web method of a class; the app does not see it
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
SCHEMES = {b"http": ("http", "ws"), b"https": ("https", "wss")}


def spellings(names: Iterable[str]) -> frozenset[bytes]:
    """Every spelling with an underscore that becomes the same key of a WSGI environ.

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
    """What of a request's head concerns the runner."""

    request_id: str | None
    method: str  # the web method that the ingress chose; empty where there is only one
    chunked: bool  # the body comes without a length


def read(scope: dict[str, Any]) -> Head:
    """Read an ASGI scope's head; its scheme, client and headers become what the app is to see.

    The list of headers becomes a copy, so that nothing that keeps the old one can add to it.
    """
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    known = dict(headers)
    if HIDDEN.isdisjoint(known):
        scope["headers"] = headers.copy()
    else:
        scope["headers"] = [pair for pair in headers if pair[0] not in HIDDEN]
    if (schemes := SCHEMES.get(known.get(b"x-forwarded-proto", b""))) is not None:
        scope["scheme"] = schemes[scope["type"] == "websocket"]
    if client := known.get(b"x-forwarded-for"):
        # One address: the ingress replaces the field. Were there more, its own is the last.
        scope["client"] = (client.rpartition(b",")[2].strip().decode("latin-1"), 0)
    request_id, method = known.get(b"x-request-id"), known.get(b"x-homeport-method")
    return Head(
        request_id.decode("latin-1") if request_id is not None else None,
        unquote(method.decode("latin-1")) if method else "",  # it may hold any letters
        b"transfer-encoding" in known,
    )
