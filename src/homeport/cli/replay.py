"""`homeport request replay`: sends a captured request again, and says how the answer differs from the captured one."""

import difflib
import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from homeport.cli import options, output, server, terminal
from homeport.contract import names
from homeport.contract.captured import Captured, Fields
from homeport.contract.dataclass import dataclass
from homeport.contract.errors import BadRequest, NotFound
from homeport.settings import Settings

if TYPE_CHECKING:
    from homeport.client import Client
    from homeport.contract.api.captures import CapturedRequest

SAFE = ("GET", "HEAD", "OPTIONS")
TIMEOUT_S = 300.0
MOST_BYTES = 10 * 1024 * 1024  # that are read of an answer
MOST_LINES = 200  # of differences between bodies
#: Fields of a request that its way to the container has written.
OF_THE_WAY = frozenset(
    ("host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "upgrade", "expect", "via",
     "forwarded", "accept-encoding", "x-request-id", "x-real-ip", "traceparent", "tracestate", "max-forwards")
)  # fmt: skip
#: Fields of a response that differ each time.
VARYING = frozenset(
    ("date", "server", "x-request-id", "modal-function-call-id", "content-length", "transfer-encoding", "connection",
     "keep-alive", "strict-transport-security", "server-timing", "age", "set-cookie")
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back."""

    status: int
    fields: Fields
    body: bytes
    took_ms: int


async def replay(
    settings: Settings,
    request: str,
    *,
    to: str,
    headers: Sequence[str],
    yes: bool,
    as_json: bool,
) -> None:
    """Send a captured request again, and print how the answer differs."""
    added = [_field(text) for text in headers]
    async with server.running(settings) as client:
        captured_request = await client.captures.one(request)
        url = await _url(client, captured_request, to)
    captured = captured_request.captured
    _check(captured)
    if captured.method not in SAFE:
        question = f"Send {captured.method} {captured.target} to {url} again? It may change something there."
        options.confirm(terminal.text(question), yes=yes)
    if "***" in captured.target or b"***" in captured.request.body:
        output.say("warning: secrets in the request were replaced by `***`, and are sent so")
    answer = await sent(settings, url, captured, added)
    if as_json:
        output.show_json(
            {
                "url": url,
                "status": answer.status,
                "took_ms": answer.took_ms,
                "differences": list(differences(captured, answer)),
            }
        )
        return
    output.say(f"{captured.method} {captured.target} -> {url}")
    changes = [*differences(captured, answer)]
    for line in changes or ["the answer is the same"]:
        output.out().print(terminal.text(line))
    output.say(f"{captured.took_ms} ms in the container then, {answer.took_ms} ms from here now")


def differences(captured: Captured, answer: Answer) -> Iterator[str]:
    """Yield a line for each difference between the captured response and this one; the time aside."""
    if captured.status != answer.status:
        yield f"status: {captured.status} -> {answer.status}"
    before, now = _compared(captured.response.fields, captured), _compared(answer.fields, captured)
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            yield f"{name}: {_value(before.get(name))} -> {_value(now.get(name))}"
    old, new = captured.response.body, answer.body
    if captured.response.cut:
        yield f"body: the captured one has {captured.response.body_bytes} bytes, of which {len(old)} were kept and are compared"
        new = new[: len(old)]
    if old != new:
        yield from _of_bodies(old, new)


def summary(captured: Captured, answer: Answer) -> str:
    """Return the differences in a few words; empty if there are none."""
    changes = [line for line in differences(captured, answer) if line.startswith("status: ")]
    before, now = _compared(captured.response.fields, captured), _compared(answer.fields, captured)
    changes += [
        name for name in sorted(before.keys() | now.keys()) if before.get(name) != now.get(name)
    ]
    old, new = captured.response.body, answer.body
    new = new[: len(old)] if captured.response.cut else new
    if captured.method != "HEAD" and old != new and _as_text(old) != _as_text(new):
        changes.append("body")
    return ", ".join(changes)


def _of_bodies(old: bytes, new: bytes) -> Iterator[str]:
    texts = _as_text(old), _as_text(new)
    if texts[0] is None or texts[1] is None:
        yield f"body: {len(old)} bytes -> {len(new)} bytes, not text"
        return
    lines = difflib.unified_diff(
        texts[0].splitlines(), texts[1].splitlines(), "captured", "now", lineterm="", n=2
    )
    for number, line in enumerate(lines):
        if number == MOST_LINES:
            yield "…"
            return
        yield line


def _as_text(body: bytes) -> str | None:
    """Return a body in lines that can be compared: JSON with sorted keys; None if it is not text."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    try:
        return json.dumps(json.loads(text), indent=2, sort_keys=True, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


def _compared(fields: Fields, captured: Captured) -> dict[str, str]:
    compared: dict[str, str] = {}
    for name, value in fields:
        low = name.lower()
        if low not in VARYING and low not in captured.removed:
            compared[low] = f"{compared[low]}, {value}" if low in compared else value
    return compared


def _value(value: str | None) -> str:
    return "(none)" if value is None else value


def _check(captured: Captured) -> None:
    """Raise if the request cannot be sent as it was."""
    lengths = [v for n, v in captured.request.fields if n.lower() == "content-length"]
    whole = int(lengths[-1]) if lengths and lengths[-1].isdigit() else captured.request.body_bytes
    if captured.request.cut or whole > captured.request.body_bytes:
        raise BadRequest(
            "the body of the request was not captured whole, so it cannot be sent again",
            hint="capture with a larger --max-body; a body that the app did not read, or that was compressed, is not kept",
        )


def fields_of(captured: Captured, added: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the fields of the request to send: the captured ones without those of its way, and more."""
    named = {name.lower() for name, _ in added}
    fields = [
        (name, value)
        for name, value in captured.request.fields
        if name.lower() not in OF_THE_WAY | named
        and not name.lower().startswith(("x-forwarded-", "x-homeport-"))
    ]
    return [*fields, ("accept-encoding", "identity"), *added]


def _field(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip().isascii() or not name.strip() or "\n" in text or "\r" in text:
        raise BadRequest(f"`{text}` is not a field", hint="write --header 'Name: value'")
    return name.strip(), value.strip()


async def _url(client: "Client", captured_request: "CapturedRequest", to: str) -> str:
    """Return the URL that a request is sent to."""
    captured = captured_request.captured
    if to.startswith(("http://", "https://")):
        return to
    if to == "session":
        for app in await client.apps.every():
            if app.name == captured.app and not app.version:
                for endpoint in app.endpoints:
                    if endpoint.tag == captured.tag:
                        return endpoint.local_url or endpoint.url
        raise NotFound(f"no `homeport serve` of `{captured.app}` runs", hint="start one first")
    if to:
        for version in await client.apps.history(captured.app):
            if f"v{version.version}" == f"v{to.removeprefix('v')}" and captured.tag in version.urls:
                return version.urls[captured.tag]
        raise NotFound(
            f"`{captured.app}` has no version `{to}` with the URL `{captured.tag}`",
            hint=f"`homeport app history {captured.app}` has its versions; or write a URL, or `session`",
        )
    if not captured_request.url:
        raise NotFound(
            f"`{names.endpoint(captured.app, captured.tag)}` serves no more", hint="say where --to"
        )
    return captured_request.local_url or captured_request.url


async def sent(
    settings: Settings, url: str, captured: Captured, added: Sequence[tuple[str, str]]
) -> Answer:
    """Send a captured request to a URL, with more fields; `BadRequest` if nothing answers."""
    import asyncio
    import ssl

    import httpx

    verify: ssl.SSLContext | bool = True
    own = settings.server_ca or settings.own_ca
    if own and url.startswith("https://"):
        verify = ssl.create_default_context()
        verify.load_verify_locations(str(own))
    target = captured.target.encode("ascii", "replace")
    try:
        where = httpx.URL(url).copy_with(raw_path=target)
    except httpx.InvalidURL as error:
        raise BadRequest(f"{url} is not a URL: {error}") from None
    headers, more = fields_of(captured, added), {}
    if where.host.endswith(".localhost"):  # which not every resolver knows
        headers = [("host", where.netloc.decode()), *headers]
        where, more = where.copy_with(host=settings.local_host), {"sni_hostname": where.host}
    loop = asyncio.get_running_loop()
    began, body = loop.time(), bytearray()
    try:
        async with (
            httpx.AsyncClient(timeout=TIMEOUT_S, verify=verify, trust_env=False) as http,
            http.stream(
                captured.method,
                where,
                headers=headers,
                content=captured.request.body or None,
                extensions=more,
            ) as response,
        ):
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MOST_BYTES:
                    break
    except (httpx.HTTPError, UnicodeError) as error:
        raise BadRequest(f"{url} does not answer: {error or type(error).__name__}") from None
    return Answer(
        status=response.status_code,
        fields=tuple(response.headers.multi_items()),
        body=bytes(body),
        took_ms=round((loop.time() - began) * 1000),
    )
