"""The URL of an endpoint that a program can use on this machine."""

import functools
import socket
from urllib.parse import urlsplit


def usable(url: str, local_url: str) -> str:
    """Return the URL, or the local one if it is of this machine and this machine's resolver does not know its host.

    Names below `.localhost` are this machine's (RFC 6761, 6.3), and a browser and curl know that. A program asks the
    system, which may ask a name server: Debian without libnss-myhostname or systemd-resolved does.
    """
    host = urlsplit(url).hostname or ""
    if not local_url or not host.endswith(".localhost") or _is_known(host):
        return url
    return local_url


@functools.cache
def _is_known(host: str) -> bool:
    try:
        socket.getaddrinfo(host, None)
    except (OSError, UnicodeError):  # it has no address; a label is too long
        return False
    return True
