"""A visitor's session: a cookie with the token, and the checks of requests that change something."""

import time
from urllib.parse import parse_qsl, urlsplit

from starlette.requests import Request
from starlette.responses import Response

from homeport.contract.errors import BadRequest, Forbidden

#: With `__Host-` a browser takes the cookie from this host only, and only by HTTPS; without HTTPS no name gives that guarantee.
SECURE_COOKIE, COOKIE = "__Host-homeport", "homeport-dashboard"
MAX_TOKEN = 200  # characters
MOST_FORM, MOST_FIELDS = 1_000_000, 100  # bytes, because anybody may send a form to the login


def cookie_name(request: Request) -> str:
    """Return the name of the session's cookie."""
    return SECURE_COOKIE if request.url.scheme == "https" else COOKIE


def token_of(request: Request) -> str:
    """Return the visitor's token; empty if there is none."""
    text = request.cookies.get(cookie_name(request), "")
    is_token = len(text) <= MAX_TOKEN and text.isascii() and text.isprintable() and " " not in text
    return text if is_token else ""


def keep(request: Request, response: Response, token: str, lasts_s: float) -> None:
    """Set the cookie. No script can read it, and no other site's page sends it."""
    response.set_cookie(
        cookie_name(request),
        token,
        max_age=int(lasts_s),
        path="/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )


def forget(request: Request, response: Response) -> None:
    """Delete the cookie."""
    response.delete_cookie(
        cookie_name(request),
        path="/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="strict",
    )


def visitor(request: Request) -> str:
    """Return the visitor's address, as the ingress has written it."""
    return request.client.host if request.client else ""


def check_origin(request: Request) -> None:
    """Raise `Forbidden` unless a page of the dashboard makes this request.

    Other apps are on the same site, so `SameSite` does not refuse their pages. A browser sends the origin with each
    POST.
    """
    origin = request.headers.get("origin", "")
    expected = f"{request.url.scheme}://{request.headers.get('host', '')}"
    if origin.lower() != expected.lower():
        raise Forbidden("this request does not come from a page of the dashboard")


async def form(request: Request) -> dict[str, str]:
    """Return the fields of a form; `BadRequest` for one that no page of the dashboard sends."""
    text = bytearray()
    async for piece in request.stream():
        text += piece
        if len(text) > MOST_FORM:
            raise BadRequest(f"a form has at most {MOST_FORM:,} bytes")
    try:
        fields = parse_qsl(text.decode(), keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError:
        raise BadRequest("this is not a form of the dashboard") from None
    return dict(fields)


def shares_cookies(request: Request) -> bool:
    """Return whether other apps are on the same host: an address with a port of its own for each endpoint.

    A browser sends a cookie to every port of a host, so a session here would be shown to every app.
    """
    host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    return host == "localhost" or ":" in host or host.replace(".", "").isdigit() or "--" not in host


def left_s(until: float) -> float:
    """Return how many seconds there are until a moment."""
    return max(1.0, until - time.time())
