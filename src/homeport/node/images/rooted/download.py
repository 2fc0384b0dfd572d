"""Downloads a file for ADD: only by HTTP(S), of bounded size, and checked if the Dockerfile gives its hash.

The node itself fetches it, with the machine's network. So the addresses where clouds give a machine its credentials are
refused here, as the firewall refuses them to the steps in cells.
"""

import asyncio
import functools
import hashlib
import ipaddress
import socket
import threading
import urllib.parse
from pathlib import Path
from typing import Any

from homeport.cell.network import METADATA, METADATA_6
from homeport.contract.errors import ImageError

MAX_BYTES = 16 * 1024**3
CHUNK_BYTES = 1024**2
SILENT_S = 60.0
SCHEMES = ("http", "https")
CREDENTIALS = tuple(ipaddress.ip_network(text) for text in (*METADATA, *METADATA_6))


async def fetch(url: str, path: Path, checksum: str, *, max_bytes: int = MAX_BYTES) -> None:
    """Write the content of a URL to a file; `checksum` is `sha256:…`, or empty. Raises `ImageError`."""
    import http.client  # 2 MiB with `urllib.request`, which a server needs for ADD alone
    import urllib.error

    ended = threading.Event()
    try:
        digest = await asyncio.to_thread(_fetch, url, path, ended, max_bytes)
    except (OSError, ValueError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it holds the connection
        raise ImageError(f"`{url}` cannot be downloaded: {error}") from None
    finally:
        ended.set()
    if checksum and checksum != f"sha256:{digest}":
        raise ImageError(f"`{url}` is not what was expected: it has the checksum sha256:{digest}")


def _fetch(url: str, path: Path, ended: threading.Event, max_bytes: int) -> str:
    hashed, total = hashlib.sha256(), 0
    with opened(url, SILENT_S) as answer, path.open("xb") as file:
        while (chunk := answer.read(CHUNK_BYTES)) and not ended.is_set():
            total += len(chunk)
            if total > max_bytes:
                raise ValueError(f"it is larger than {max_bytes} bytes")
            hashed.update(chunk)
            file.write(chunk)
        if answer.length and not ended.is_set():  # Python says nothing about bytes that are missing
            raise ValueError(f"it ended {answer.length} bytes too early")
    return hashed.hexdigest()


def opened(request: Any, timeout_s: float) -> Any:
    """Send a request, or get a URL, by HTTP(S) alone; return the response. Blocks.

    Raises `OSError`, `ValueError` or `http.client.HTTPException`.
    """
    url = request if isinstance(request, str) else request.full_url
    if urllib.parse.urlsplit(url).scheme not in SCHEMES:
        raise ValueError("it is not an HTTP address")
    return _opener().open(request, timeout=timeout_s)


def _opener() -> Any:
    """Return an opener that follows redirects to HTTP(S) URLs only, and connects to no address of credentials."""
    import urllib.error
    import urllib.request

    class Redirects(urllib.request.HTTPRedirectHandler):
        def redirect_request(
            self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
        ) -> Any:
            if urllib.parse.urlsplit(newurl).scheme not in SCHEMES:
                raise urllib.error.URLError(f"it leads to {newurl[:80]!r}")
            return super().redirect_request(req, fp, code, msg, headers, newurl)

    class Http(urllib.request.HTTPHandler):
        def do_open(self, http_class: Any, req: Any, **options: Any) -> Any:
            return super().do_open(functools.partial(_careful, http_class), req, **options)

    class Https(urllib.request.HTTPSHandler):
        def do_open(self, http_class: Any, req: Any, **options: Any) -> Any:
            return super().do_open(functools.partial(_careful, http_class), req, **options)

    return urllib.request.build_opener(Redirects, Http, Https)


def _careful(kind: Any, host: str, **options: Any) -> Any:
    """Return a connection that asks no address of credentials, whatever its name resolves to."""
    connection = kind(host, **options)
    connection._create_connection = _connected  # noqa: SLF001 - http.client has no other way
    return connection


def _connected(address: Any, *options: Any) -> socket.socket:
    connection = socket.create_connection(address, *options)
    if holds_credentials(connection.getpeername()[0]):
        connection.close()
        raise OSError("clouds give a machine its credentials there")
    return connection


def holds_credentials(host: str) -> bool:
    """Return whether a cloud may give this machine its credentials at an IP address.

    >>> holds_credentials("169.254.169.254"), holds_credentials("::ffff:a9fe:a9fe"), holds_credentials("127.0.0.1")
    (True, True, False)
    """
    address = ipaddress.ip_address(host.partition("%")[0])
    address = getattr(address, "ipv4_mapped", None) or address
    return any(address in network for network in CREDENTIALS)
