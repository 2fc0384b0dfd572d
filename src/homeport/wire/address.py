"""Where requests go: to a Unix socket of this machine, or to the API of another machine's server."""

import functools
from dataclasses import field
from typing import Any

from homeport.contract.dataclass import dataclass

CALLS = "/v1/calls"  # where the API passes calls on (control/api/passing.py)
CONNECT_S = 10.0
IDLE_S = 20.0  # HAProxy closes a connection that is idle for 30 s
REMOTE_IDLE_S = 3.0  # and the API after 5 s


@dataclass(frozen=True)
class Remote:
    """A server's API that is reached by TCP."""

    host: str
    port: int
    tls: bool  # the server's certificate is checked
    base: str  # the path of its URL before `/v1`
    token: str = field(repr=False)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}{self.base}"


#: A Unix socket's path, or a server's API.
Address = str | Remote


def address_of(where: str, token: str = "") -> "Address":
    """Return the address of a Unix socket's path, or of a server's URL; `ValueError` for a URL without a host."""
    if where.startswith("/"):
        return where
    from urllib.parse import urlsplit  # 2 ms that no container needs

    url = urlsplit(where)
    tls = url.scheme == "https"
    if not url.hostname:
        raise ValueError(f"{where!r} has no host")
    port = url.port or (443 if tls else 80)
    return Remote(url.hostname, port, tls, url.path.rstrip("/"), token)


def idle_s(address: "Address") -> float:
    """Return how many seconds a connection may be idle before it is no longer used."""
    return IDLE_S if isinstance(address, str) else REMOTE_IDLE_S


@functools.cache
def tls() -> Any:
    """Return a TLS context that checks the certificates of servers."""
    import ssl  # 10 ms that no container needs

    return ssl.create_default_context()
