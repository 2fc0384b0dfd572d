"""Tries an endpoint: makes one request to its URL, and shows the whole answer."""

import json
import time
from urllib.parse import urlsplit

import httpx

from homeport.contract.api.api_tokens import Identity
from homeport.contract.api.apps import EndpointStatus
from homeport.contract.dataclass import dataclass
from homeport.contract.errors import BadRequest, Forbidden, NotFound
from homeport.contract.names import HTTP_METHODS
from homeport.contract.permissions import Permission
from homeport.dashboard import render
from homeport.dashboard.pages.endpoint import find
from homeport.dashboard.pages.openapi import Operation, operations
from homeport.dashboard.pages.page import Page, Part, Visit

TIMEOUT_S = 60.0
MOST_BYTES = 256 * 1024
#: Fields that belong to the connection, or that a visitor of the dashboard must not choose.
REFUSED = {"host", "content-length", "connection", "transfer-encoding", "upgrade"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer of the endpoint."""

    status: int
    took_ms: float
    headers: list[tuple[str, str]]
    text: str
    is_cut: bool


async def form(visit: Visit) -> Part:
    """Show the form; with `openapi` the endpoint is asked for its OpenAPI document, which may start a container."""
    _, endpoint = await find(visit)
    listed = await _operations(endpoint) if visit.parameter("openapi") else None
    chosen = {
        "method": visit.parameter("method") or "GET",
        "path": visit.parameter("path") or "/",
        "body": visit.parameter("body", 100_000),
        "headers": "",
    }
    return _shown(visit, endpoint.url, listed, chosen, None)


async def send(visit: Visit) -> Part:
    """Make the request."""
    identity = await visit.api.get(Identity, "/v1/identity")
    if Permission.DEPLOY not in identity.permissions:
        raise Forbidden("to try an endpoint needs a token with the scope `deploy`")
    _, endpoint = await find(visit)
    filled_in = await visit.form()
    method, path = filled_in.get("method", "GET").upper(), filled_in.get("path", "/")
    if not endpoint.url:
        raise NotFound("this function has no URL")
    if method not in HTTP_METHODS:
        raise BadRequest(f"`{method[:20]}` is not a method")
    if not path.startswith("/") or not path.isprintable() or not path.isascii():
        raise BadRequest("the path begins with `/`, and has what a URL may have")
    headers = _headers(filled_in.get("headers", ""))
    body = filled_in.get("body", "")
    if body and not any(name.lower() == "content-type" for name, _ in headers):
        headers.append(("Content-Type", "application/json"))
    answer = await _ask(endpoint, method, path, headers, body.encode())
    return _shown(visit, endpoint.url, None, filled_in, answer)


def _shown(
    visit: Visit,
    url: str,
    operations: list[Operation] | None,
    filled_in: dict[str, str],
    answer: Answer | None,
) -> Part:
    body = render.template(
        "try",
        visit=visit,
        url=url,
        app=visit.parameter("app"),
        tag=visit.parameter("tag"),
        methods=HTTP_METHODS,
        operations=operations,
        given=filled_in,
        answer=answer,
    )
    return Part(title=f"Try {visit.parameter('app')}.{visit.parameter('tag')}", body=body)


def _headers(text: str) -> list[tuple[str, str]]:
    headers = []
    for line in filter(None, map(str.strip, text.splitlines())):
        name, colon, value = line.partition(":")
        is_name = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
        if not colon or not is_name or name.lower() in REFUSED or not value.isprintable():
            raise BadRequest(
                f"`{line[:80]}` is not a field that can be sent", hint="write `Name: value`"
            )
        headers.append((name, value.strip()))
    return headers


async def _ask(
    endpoint: EndpointStatus, method: str, path: str, headers: list[tuple[str, str]], body: bytes
) -> Answer:
    """Make one request to an endpoint, by its URL, or by its local port if the name of the URL cannot be resolved."""
    try:
        return await _asked(method, endpoint.url + path, headers, body)
    except httpx.ConnectError:
        host = urlsplit(endpoint.url).netloc
        try:
            return await _asked(method, endpoint.local_url + path, [("Host", host), *headers], body)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _silent(endpoint.url, error) from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _silent(endpoint.url, error) from None


def _silent(url: str, error: Exception) -> NotFound:
    return NotFound(
        f"{url} does not answer: {type(error).__name__} {error}".strip(),
        hint="the dashboard's container asks the URL as any visitor does",
    )


async def _asked(method: str, url: str, headers: list[tuple[str, str]], body: bytes) -> Answer:
    began = time.monotonic()
    text = bytearray()
    async with (
        httpx.AsyncClient(timeout=TIMEOUT_S) as http,
        http.stream(method, url, headers=headers, content=body or None) as answer,
    ):
        async for piece in answer.aiter_bytes():
            text += piece
            if len(text) > MOST_BYTES:
                break
    return Answer(
        status=answer.status_code,
        took_ms=1000 * (time.monotonic() - began),
        headers=list(answer.headers.multi_items()),
        text=_pretty(bytes(text[:MOST_BYTES])),
        is_cut=len(text) > MOST_BYTES,
    )


def _pretty(body: bytes) -> str:
    text = body.decode("utf-8", "replace")
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):  # no JSON, or too deep for Python
        return text


async def _operations(endpoint: EndpointStatus) -> list[Operation]:
    """Return the operations of an endpoint's OpenAPI document; none without one."""
    answer = await _ask(endpoint, "GET", "/openapi.json", [], b"")
    return operations(answer.text)


PAGES = (Page(path="/try", handler=form), Page(path="/try", handler=send, method="POST"))
