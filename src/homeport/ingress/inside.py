"""The rules for requests that come by the socket `calls`, from containers and scripts of this machine.

A request with X-Homeport-Call is a call of a function. Another one for a path below `/v1/` is for the control plane, which has a
listener with few routes for it.

A container of any app may be connected, so a request decides nothing but the endpoint that it asks for. A process that
reaches the socket may call every function. There are no credentials, no pages and no limits per address.
"""

from collections.abc import Sequence

from homeport.ingress import rules as web
from homeport.ingress import traces
from homeport.ingress.rules import answer

SERVER = "inside"
#: The node that a request comes from: the ingress's own for the control plane.
NODE = "X-Homeport-Node"
OF_HERE = (f"  http-request del-header {NODE}",)  # `who`, for containers of this machine
#: Fields that a caller must not set; the first three are the ingress's own for the container.
REMOVED = (
    *("X-Homeport-Method", "X-Homeport-Hops", "X-Homeport-Host"),
    *("X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Host"),
    *("X-Real-IP", "Forwarded", "Upgrade", "Connection"),
)


def rules(traced: float | None = None, who: Sequence[str] = ()) -> list[str]:
    """Return the rules of a frontend for containers; `traced` is as in `Config`.

    `who`: the rules that say from which node a request comes, on a server that has others.
    """
    return [
        *web.called(),
        "  acl to_server path_beg /v1/",
        *answer(404, "there is nothing here", "!call !to_server"),
        *who,
        "  http-request allow if to_server !call",
        *([] if traced is None else traces.rules(traced)),
        *answer(405, "a call is a POST", "!METH_POST"),
        *web.body(),
        *(f"  http-request del-header {name}" for name in (*REMOVED, *([NODE] if who else []))),
        "  http-request set-header X-Request-Id %[unique-id]",
        "  http-request set-var(txn.retries) var(txn.endpoint),map_str(retries.map)",
        *web.method(),
        *web.to_pool(),
        f"  use_backend {SERVER} if to_server !call",
    ]


def backend(socket: str) -> list[str]:
    """Return the backend for the control plane."""
    return [
        f"backend {SERVER}",
        "  retries 0",  # without a server the caller gets 503 at once, and tries again itself
        f"  server control unix@{socket}",
    ]


def responses() -> list[str]:
    """Return the rules for every response, also those of the ingress itself."""
    return [
        "  http-after-response set-header X-Request-Id %[unique-id]",
        "  http-after-response del-header X-Homeport-Retries",
        "  acl retried var(txn.retries) -m found",
        "  http-after-response set-header X-Homeport-Retries %[var(txn.retries)] if retried",
    ]
