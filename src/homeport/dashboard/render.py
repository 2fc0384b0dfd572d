"""Makes pages of templates. Every value is escaped: log lines, paths and names come from outside."""

import gzip
import hashlib
import re
import time
from importlib import resources
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import Response

from homeport.contract import names
from homeport.dashboard import charts

#: Scripts and styles come from this host only, and no page contains any, so text that gets into a page cannot run.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
ZIP_BYTES = 1500  # smaller answers are sent as they are
STATIC = {
    file.name: file.read_bytes()
    for file in resources.files("homeport.dashboard").joinpath("static").iterdir()
}
STAMP = hashlib.sha256(b"".join(STATIC[name] for name in sorted(STATIC))).hexdigest()[:12]


def mark(*parts: bytes) -> str:
    """Return a tag that changes with the content of a page, or with this version of the dashboard."""
    digest = hashlib.blake2b(STAMP.encode(), digest_size=12)
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return f'"{digest.hexdigest()}"'


def unchanged(tag: str) -> Response:
    """Return the answer to a page that has the same already."""
    return Response(status_code=304, headers={**HEADERS, "ETag": tag})


def page(request: Request, body: str, *, status: int = 200, tag: str = "") -> Response:
    """Return a page, or 304 if the visitor has the same already; `tag` is its mark, if it has one."""
    content = body.encode("utf-8", "replace")
    tag = tag or mark(content)
    headers = {**HEADERS, "ETag": tag, "Vary": "Cookie, Accept-Encoding, X-Part"}
    if status == 200 and request.headers.get("if-none-match") == tag:
        return unchanged(tag)
    if len(content) >= ZIP_BYTES and "gzip" in request.headers.get("accept-encoding", ""):
        content = gzip.compress(content, 2, mtime=0)
        headers["Content-Encoding"] = "gzip"
    return Response(content, status_code=status, headers=headers, media_type="text/html")


def template(of: str, /, **values: Any) -> Markup:
    """Return a template with its values."""
    return Markup(_ENVIRONMENT.get_template(f"{of}.html").render(**values))  # noqa: S704 - it is escaped


def number(value: float | None) -> str:
    """Return a number that people compare.

    >>> [number(each) for each in (None, 0, 0.04, 3.14159, 42.0, 12345, 3456789)]
    ['-', '0', '0.04', '3.1', '42', '12,345', '3.46 M']
    """
    if value is None:
        return "-"
    if value >= 1_000_000:
        return f"{value / 1_000_000:.2f} M"
    if value >= 10 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 0.1 else f"{value:.2f}"


def milliseconds(value: float | None) -> str:
    """Return a length of time.

    >>> [milliseconds(each) for each in (None, 0, 12, 940, 1234, 65_000, 7_260_000)]
    ['-', '0 ms', '12 ms', '940 ms', '1.23 s', '1 min 5 s', '2 h 1 min']
    """
    if value is None:
        return "-"
    if value < 1000:
        return f"{value:.0f} ms"
    if value < 60_000:
        return f"{value / 1000:.3g} s"
    seconds = round(value / 1000)
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


def size(value: float | None) -> str:
    """Return a number of bytes.

    >>> [size(each) for each in (None, 0, 1023, 1536, 5 * 1024**2)]
    ['-', '0 B', '1023 B', '1.5 KiB', '5 MiB']
    """
    if value is None:
        return "-"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.3g} {unit}" if unit != "B" else f"{value:.0f} B"
        value /= 1024
    return f"{value:.3g} TiB"


def moment(at: float | None) -> Markup:
    """Return a moment; the page's script writes it in the visitor's time zone.

    >>> moment(None), moment(1e300)
    (Markup('-'), Markup('-'))
    """
    if not at:
        return Markup("-")
    try:
        utc = time.gmtime(at)
    except (OverflowError, ValueError):  # a container can give a file any time
        return Markup("-")
    iso = time.strftime("%Y-%m-%dT%H:%M:%SZ", utc)
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", utc)
    return Markup('<time datetime="{}" data-at="{:.3f}">{}</time>').format(iso, at, shown)


def ago(at: float | None) -> str:
    """Return how long ago a moment is, in words."""
    return "never" if not at else f"{milliseconds(max(0.0, time.time() - at) // 1 * 1000)} ago"


def path(to: str, environment: str = "", **parameters: Any) -> str:
    """Return the address of a page."""
    texts = {name: str(value) for name, value in parameters.items() if value not in ("", None)}
    if environment not in ("", "main"):
        texts["env"] = environment
    return f"{to}?{urlencode(texts)}" if texts else to


def link(address: str) -> str:
    """Return an address for a link: that of a web page, and nothing that a browser would execute."""
    return address if address.startswith(("http://", "https://")) else ""


def ticks(text: str) -> Markup:
    """Return a message with what stands between backticks as code.

    >>> ticks("`a<b` fails")
    Markup('<code>a&lt;b</code> fails')
    """
    first, *parts = re.split(r"`([^`]*)`", text)
    codes = [Markup("<code>{}</code>{}").format(*pair) for pair in batched(parts)]
    return escape(first) + Markup("").join(codes)


def batched(values: list[str]) -> list[tuple[str, str]]:
    """Return pairs of values.

    >>> batched(["a", "b", "c", "d"])
    [('a', 'b'), ('c', 'd')]
    """
    return list(zip(values[::2], values[1::2], strict=True))


_ENVIRONMENT = Environment(
    loader=PackageLoader("homeport.dashboard"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
_ENVIRONMENT.filters.update(
    number=number, ms=milliseconds, size=size, moment=moment, ago=ago, link=link, ticks=ticks
)
_ENVIRONMENT.globals.update(
    path=path,
    endpoint=names.endpoint,
    stamp=STAMP,
    sparkline=charts.sparkline,
    chart=charts.chart,
    strip=charts.strip,
)
