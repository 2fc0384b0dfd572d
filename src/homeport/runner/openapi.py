"""FastAPI's pages `/docs` and `/redoc` without the internet.

FastAPI's own pages load Swagger UI and ReDoc from a CDN. The node lays these files beside homeport's code
(`node/openapi`), where each container sees them, and the pages load them from there. A page has its files at its own
address, `/docs?homeport=…`, which is right wherever the app is mounted and costs other requests nothing. Pages
that an app makes itself, and addresses that it has chosen, stay as they are.
"""

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from homeport.contract.openapi import FOLDER, KINDS

ASKED = "homeport"  # in the query of a page: the file that is wanted

#: FastAPI makes these functions itself, for each app.
_PAGES = ("FastAPI.setup.<locals>.swagger_ui_html", "FastAPI.setup.<locals>.redoc_html")
_ADDRESSES = (
    r"https://cdn\.jsdelivr\.net/npm/(?:swagger-ui-dist|redoc)@[\w.-]+/(?:bundles/)?([\w.-]+)"
    r"|https://fastapi\.tiangolo\.com/img/(favicon\.png)"
)
_FONTS = r'<link href="https://fonts\.googleapis\.com/[^>]*>'

Page = Callable[[Any], Awaitable[Any]]


def localize(app: Any) -> None:
    """Let the pages of a FastAPI app, and of those that it mounts, load their files from this app."""
    if "fastapi" not in sys.modules:
        return
    waiting, visited = [app], set()
    while waiting:
        app = waiting.pop()
        routes = getattr(getattr(app, "router", None), "routes", None)
        if not isinstance(routes, list) or id(app) in visited:
            continue
        visited.add(id(app))
        for place, route in enumerate(routes):
            page: Any = getattr(route, "endpoint", None)
            if getattr(page, "__qualname__", "") in _PAGES:
                routes[place] = type(route)(
                    route.path, _local(page), name=route.name, include_in_schema=False
                )
            elif page is None and hasattr(route, "app"):  # a mount
                waiting.append(route.app)


def _local(page: Page) -> Page:
    from fastapi.responses import HTMLResponse

    async def local(request: Any) -> Any:
        folder = _folder()
        if folder is None:
            return await page(request)
        name = request.query_params.get(ASKED, "").rpartition("/")[2]
        if name in KINDS and (packed := _read(folder, name)) is not None:
            return _response(packed, KINDS[name], request.headers.get("accept-encoding", ""))
        return HTMLResponse(with_files((await page(request)).body.decode(), folder))

    return local


def with_files(html: str, folder: Path) -> str:
    """Return a page that loads its files from its own address, as far as the folder has them."""
    import re

    def address(match: "re.Match[str]") -> str:
        name = match[1] or match[2]
        try:
            # Another file has another time, so browsers may keep this one.
            version = int((folder / f"{name}.gz").stat().st_mtime)
        except OSError:
            return match[0]
        return f"?{ASKED}={version:x}/{name}"

    local = re.sub(_ADDRESSES, address, html)
    return re.sub(_FONTS, "", local) if local != html else html


def _response(packed: bytes, kind: str, encodings: str) -> Any:
    from fastapi.responses import Response

    fields = {"cache-control": "max-age=31536000, immutable", "vary": "accept-encoding"}
    if "gzip" in encodings:
        return Response(packed, headers={**fields, "content-encoding": "gzip"}, media_type=kind)
    import gzip

    return Response(gzip.decompress(packed), headers=fields, media_type=kind)


def _folder() -> "Path | None":
    for path in sys.path:
        if path and (folder := Path(path) / FOLDER).is_dir():
            return folder
    return None


def _read(folder: Path, name: str) -> "bytes | None":
    try:
        return (folder / f"{name}.gz").read_bytes()
    except OSError:
        return None
