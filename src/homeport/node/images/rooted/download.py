"""Downloads a file for ADD: only by HTTP(S), of bounded size, and checked if the Dockerfile gives its hash."""

import asyncio
import hashlib
import threading
import urllib.parse
from pathlib import Path
from typing import Any

from homeport.contract.errors import ImageError

MAX_BYTES = 16 * 1024**3
CHUNK_BYTES = 1024**2
SILENT_S = 60.0
SCHEMES = ("http", "https")


async def fetch(url: str, path: Path, checksum: str, *, max_bytes: int = MAX_BYTES) -> None:
    """Write the content of a URL to a file; `checksum` is `sha256:…`, or empty. Raises `ImageError`."""
    import urllib.error  # 2 MiB with `urllib.request`, which a server needs for ADD alone

    ended = threading.Event()
    try:
        digest = await asyncio.to_thread(_fetch, url, path, ended, max_bytes)
    except (OSError, ValueError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it holds the connection
        raise ImageError(f"`{url}` cannot be downloaded: {error}") from None
    finally:
        ended.set()
    if checksum and checksum != f"sha256:{digest}":
        raise ImageError(f"`{url}` is not what was expected: it has the checksum sha256:{digest}")


def _fetch(url: str, path: Path, ended: threading.Event, max_bytes: int) -> str:
    if urllib.parse.urlsplit(url).scheme not in SCHEMES:
        raise ValueError("it is not an HTTP address")
    opener = _opener()
    hashed, total = hashlib.sha256(), 0
    with opener.open(url, timeout=SILENT_S) as answer, path.open("xb") as file:
        while (chunk := answer.read(CHUNK_BYTES)) and not ended.is_set():
            total += len(chunk)
            if total > max_bytes:
                raise ValueError(f"it is larger than {max_bytes} bytes")
            hashed.update(chunk)
            file.write(chunk)
    return hashed.hexdigest()


def _opener() -> Any:
    """Return an opener that follows redirects to HTTP(S) URLs only."""
    import urllib.error
    import urllib.request

    class Redirects(urllib.request.HTTPRedirectHandler):
        def redirect_request(
            self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
        ) -> Any:
            if urllib.parse.urlsplit(newurl).scheme not in SCHEMES:
                raise urllib.error.URLError(f"it leads to {newurl[:80]!r}")
            return super().redirect_request(req, fp, code, msg, headers, newurl)

    return urllib.request.build_opener(Redirects)
