"""The way of a joined machine's containers to the control plane's ingress, as lines of haproxy.cfg. PURE.

They connect to the same Unix sockets as on the control plane's machine, `calls` and `urls`. This HAProxy leads both by
mTLS to one port there (`nodes`); the name in its handshake says which of them it is for. Requests to loopback at the port of URLs come
here too, where these URLs lead to loopback.

A call may wait for its container for long, with an input that nobody reads meanwhile. So there is no limit for data that is not
acknowledged, which is what the kernel counts as such (`tcp-ut`): the agent finds out when the machine is gone (`PeerPort.part_callers`).

Calls are passed on as HTTP: if the control plane's machine does not answer, the caller gets 503 and tries again, because nothing
was sent. Requests to URLs are bytes.
"""

from collections.abc import Mapping

from homeport.contract.dataclass import dataclass
from homeport.ingress import elsewhere
from homeport.ingress.unusual import MAX_HEAD_BYTES

AWAY = "the control plane does not answer this machine"
CUT = "the connection to the control plane ended before the answer was whole"
#: While the connection is refused, HAProxy waits for a second before each try.
RETRIES = 3
BACKENDS = ("calls", "urls")
#: A machine that is gone is found within 25 s while a caller waits for its answer, also without an agent.
ALIVE = tuple(
    f"  {words}"
    for words in ("option srvtcpka", "srvtcpka-idle 10s", "srvtcpka-intvl 5s", "srvtcpka-cnt 3")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaving:
    """The values in these lines."""

    calls: int  # the descriptors of the listening sockets
    urls: int
    loopback: int | None = None  # that of the port of URLs; None: there is none
    where: str  # HAProxy's address of the port
    of_control: str  # the name in the control plane's certificate
    ca: str  # the files
    pair: str
    most: int  # connections of each of the two kinds

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The descriptors that the process needs."""
        loopback = () if self.loopback is None else (self.loopback,)
        return (self.calls, self.urls, *loopback)


def options() -> list[str]:
    """Return the lines of `global`: a head may be as long as at the other end."""
    return [f"  tune.bufsize {4 * MAX_HEAD_BYTES}", "  tune.http.maxhdr 256"]


def render(leaving: Leaving) -> list[str]:
    """Return the sections. They come last, because they have defaults of their own."""
    loopback = [] if leaving.loopback is None else [f"  bind fd@{leaving.loopback}"]
    return [
        "frontend urls",
        f"  bind fd@{leaving.urls}",
        *loopback,
        f"  maxconn {leaving.most}",
        "  default_backend urls",
        "backend urls",
        f"  retries {RETRIES}",
        *ALIVE,
        _server(leaving, "urls"),
        "",
        "defaults",
        "  mode http",
        "  option abortonclose",
        "  option http-no-delay",
        "  option idle-close-on-response",
        f"  retries {RETRIES}",
        *ALIVE,
        "  retry-on conn-failure",
        "  http-reuse safe",
        "  timeout connect 3s",
        "  timeout http-request 60s",
        "  timeout http-keep-alive 30s",
        # The control plane's ingress limits each request.
        "  timeout client 24d",
        "  timeout server 24d",
        "  timeout client-fin 30s",
        "  timeout server-fin 30s",
        *_errors({503: AWAY, 502: CUT}),
        "",
        "frontend calls",
        f"  bind fd@{leaving.calls}",
        f"  maxconn {leaving.most}",
        "  default_backend calls",
        "backend calls",
        _server(leaving, "calls"),
    ]


def _errors(texts: Mapping[int, str]) -> list[str]:
    return [
        f'  http-error status {status} content-type "text/plain; charset=utf-8" string "homeport: {text}\\n"'
        for status, text in texts.items()
    ]


def _server(leaving: Leaving, to: str) -> str:
    tls = elsewhere.tls(leaving.pair, leaving.ca, f"{to}.{leaving.of_control}")
    return f"  server control {leaving.where} {tls}"
