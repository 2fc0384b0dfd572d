"""`homeport capture …`: records whole requests of an endpoint for a while, and shows them."""

import asyncio
import re
import time
from typing import Annotated

import typer

from homeport.cli import options, output, server, terminal
from homeport.cli.endpoint import Endpoint, parts
from homeport.cli.image import size
from homeport.contract import names
from homeport.contract.errors import BadRequest
from homeport.settings import Settings

app = typer.Typer(
    help="Whole requests of an endpoint: start, stop, list, show.", no_args_is_help=True
)

UNITS = {"B": 1, "KiB": 1024, "MiB": 1024 * 1024}

Id = Annotated[str, typer.Argument(metavar="REQUEST", help="Its `X-Request-Id`.")]


@app.command()
def start(
    endpoint: Endpoint,
    for_: Annotated[str, typer.Option("--for", help="It ends after 10m, 2h.")] = "10m",
    requests: Annotated[int, typer.Option(min=1, help="It ends after so many requests.")] = 100,
    max_body: Annotated[str, typer.Option(help="How much is kept of each body.")] = "64KiB",
    json: options.Json = False,
    environment: options.Environment = None,
) -> None:
    """Record the requests of an endpoint with their responses, without credentials, for a day."""
    asyncio.run(
        _start(
            options.load(environment=environment),
            endpoint,
            for_s=options.seconds("--for", for_) or 0.0,
            requests=requests,
            body_bytes=_bytes(max_body),
            json=json,
        )
    )


@app.command()
def stop(endpoint: Endpoint, environment: options.Environment = None) -> None:
    """Record no more requests; what was recorded stays."""
    asyncio.run(_stop(options.load(environment=environment), endpoint))


@app.command("list")
def list_(json: options.Json = False, environment: options.Environment = None) -> None:
    """List what is recorded now, and the requests that were."""
    asyncio.run(_list(options.load(environment=environment), json=json))


@app.command()
def show(request: Id, json: options.Json = False, environment: options.Environment = None) -> None:
    """Show a recorded request and its response."""
    asyncio.run(_show(options.load(environment=environment), request, json=json))


async def _start(
    settings: Settings,
    endpoint: str,
    *,
    for_s: float,
    requests: int,
    body_bytes: int,
    json: bool,
) -> None:
    from homeport.contract.api.captures import NewCapture

    app_name, tag = parts(endpoint)
    order = NewCapture(app=app_name, tag=tag, for_s=for_s, requests=requests, body_bytes=body_bytes)
    async with server.running(settings) as client:
        capture = await client.captures.start(order)
    if json:
        output.show_json(capture)
        return
    output.say(
        f"✓ `{names.endpoint(capture.app, capture.tag)}` is captured until {output.local_time(capture.until)}, {output.counted(capture.left, 'request')} at most"
    )


async def _stop(settings: Settings, endpoint: str) -> None:
    app_name, tag = parts(endpoint)
    async with server.running(settings) as client:
        count = await client.captures.stop(app_name, tag)
    output.say(f"✓ `{endpoint}` is captured no more; {output.counted(count, 'request')} captured")


async def _list(settings: Settings, *, json: bool) -> None:
    async with server.running(settings) as client:
        listed = await client.captures.every()
    if json:
        output.show_json(listed)
        return
    for capture in listed.running:
        if capture.share is not None:
            output.say(
                f"`{names.endpoint(capture.app, capture.tag)}` is mirrored by a `homeport serve`"
            )
            continue
        left_s = max(capture.until - time.time(), 0)
        output.say(
            f"`{names.endpoint(capture.app, capture.tag)}` is captured: {output.counted(capture.taken, 'request')} so far, {capture.left} more or {left_s:.0f} s"
        )
    rows = [
        (
            output.local_time(captured_row.at),
            names.endpoint(captured_row.app, captured_row.tag),
            f"v{captured_row.version}" if captured_row.version else "",
            f"{captured_row.method} {captured_row.target}",
            str(captured_row.status),
            output.duration(captured_row.took_ms),
            captured_row.id,
        )
        for captured_row in listed.captured
    ]
    columns = ("When", "Function", "Version", "Request", "Status", "Took", "Id")
    output.show_table(columns, rows, empty="no request was captured in the last day")


async def _show(settings: Settings, request: str, *, json: bool) -> None:
    async with server.running(settings) as client:
        shown = await client.captures.one(request)
    if json:
        output.show_json(shown)
        return
    captured, out = shown.captured, output.out()
    lines = [f"{captured.method} {captured.target}"]
    status = output.status_text(captured.status, none="no response")
    for first, message in (("", captured.request), (status, captured.response)):
        lines += [first] if first else []
        lines += [f"{name}: {value}" for name, value in message.fields]
        lines += ["", *_body_lines(message.body), ""]
        if message.cut:
            lines.append(f"… of {size(message.body_bytes)}")
    if captured.removed:
        lines.append(f"removed: {', '.join(captured.removed)}")
    for line in lines:
        out.print(terminal.text(line))


def _body_lines(body: bytes) -> list[str]:
    """Return a body as lines, or its size if it is not text."""
    try:
        return body.decode().split("\n") if body else []
    except UnicodeDecodeError:
        return [f"({size(len(body))} that are not text)"]


def _bytes(text: str) -> int:
    """Return a size as bytes.

    >>> _bytes("64KiB"), _bytes("0B")
    (65536, 0)
    """
    match = re.fullmatch(r"([0-9]{1,9})(B|KiB|MiB)", text.strip())
    if match is None:
        raise BadRequest(f"`{text}` is not a size", hint="write 64KiB or 1MiB")
    return int(match[1]) * UNITS[match[2]]
