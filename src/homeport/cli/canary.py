"""`homeport deploy --canary`, `homeport app canary` and `app promote`: a version that gets a part of the requests."""

import re
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from homeport.cli import live, options, output, server
from homeport.contract.errors import BadRequest, NotFound
from homeport.settings import Settings

if TYPE_CHECKING:
    from homeport.contract.api.apps import CanaryStatus
    from homeport.contract.api.deploys import Canary

Share = Annotated[
    str,
    typer.Option(
        metavar="PERCENT",
        help="Give the new version 10% of the requests first, beside the old one; it is rolled back if it does worse.",
        show_default=False,
    ),
]
Lasts = Annotated[
    str,
    typer.Option(
        "--for",
        metavar="TIME",
        help="With --canary: serve all requests after 30s, 10m or 2h; 10m by default.",
        show_default=False,
    ),
]


def wanted(percent: str, lasts: str) -> "Canary | None":
    """Return what `--canary` and `--for` ask for; None without `--canary`.

    >>> wanted("10%", "")
    Canary(percent=10.0, seconds=600.0)
    >>> wanted("0.5", "2h"), wanted("", "")
    (Canary(percent=0.5, seconds=7200.0), None)
    """
    seconds = options.seconds("--for", lasts)
    if not percent:
        if seconds is not None:
            raise BadRequest("`--for` says how long a canary runs, and there is no `--canary`")
        return None
    if not (match := re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]+)?)\s*%?", percent.strip())):
        raise BadRequest(f"`--canary {percent}` is not a share", hint="write 10% or 0.5%")
    from homeport.contract.api import deploys  # not earlier: the server starts meanwhile

    lasting = {} if seconds is None else {"seconds": seconds}
    return deploys.checked(deploys.Canary(percent=float(match[1]), **lasting))


def show_begun(name: str, canary: "CanaryStatus") -> None:
    """Say what continues after a deploy with `--canary`."""
    left = lasts(canary.ends_at - time.time())
    output.say(
        f"✓ v{canary.version} gets {canary.percent:g}% of the requests, beside v{canary.before}"
    )
    output.say(
        f"It serves all of them in {left}, and none if it does worse: `homeport app canary {name}` shows how it does, "
        f"`homeport app promote {name}` and `homeport app rollback {name}` decide now"
    )


def show_ended(name: str, canary: "CanaryStatus") -> None:
    """Say what has become of a canary."""
    if canary.state == "promoted":
        output.say(f"✓ v{canary.version} of `{name}` serves all requests")
    elif canary.state == "rolled back":
        output.say(f"✓ v{canary.version} of `{name}` gets no requests any more: {canary.reason}")


def summary(canary: "CanaryStatus | None") -> str:
    """Return a canary that runs, in a few words; empty: none does.

    >>> summary(None)
    ''
    """
    if canary is None or canary.state != "running":
        return ""
    return f"v{canary.version} {canary.percent:g}%"


def lasts(seconds: float) -> str:
    """Return how long that is, for people.

    >>> lasts(3599.6), lasts(599.9), lasts(59.2), lasts(-1.0), lasts(90000.0)
    ('60 minutes', '10 minutes', '59 seconds', '0 seconds', '25 hours')
    """
    if seconds >= 2 * 3600:
        return f"{round(seconds / 3600)} hours"
    return (
        f"{round(seconds / 60)} minutes" if seconds >= 120 else f"{max(round(seconds), 0)} seconds"
    )


async def show(settings: Settings, name: str, *, json: bool) -> None:
    """Show how an app's canary does, or did."""
    async with server.running(settings) as client:
        canary = (await client.apps.one(name)).canary
    if canary is None:
        raise NotFound(
            f"the app `{name}` had no canary",
            hint="`homeport deploy script.py --canary 10%` deploys a version as one",
        )
    if json:
        output.show_json(canary)
        return
    output.out().print("\n".join(_lines(canary, time.time())))
    rows = [
        (
            endpoint.tag,
            endpoint.old_requests,
            endpoint.old_failed,
            endpoint.old_p95_ms,
            endpoint.new_requests,
            endpoint.new_failed,
            endpoint.new_p95_ms,
        )
        for endpoint in canary.endpoints
    ]
    old, new = f"v{canary.before}", f"v{canary.version}"
    columns = (
        "Function", f"{old} requests", "failed", "p95 ms", f"{new} requests", "failed", "p95 ms",
    )  # fmt: skip
    output.show_table(columns, rows, empty="nothing was counted")


def _lines(canary: "CanaryStatus", now: float) -> Iterator[str]:
    if canary.state == "running":
        left = lasts(canary.ends_at - now)
        yield (
            f"v{canary.version} gets {canary.percent:g}% of the requests beside v{canary.before}; "
            f"it serves all of them in {left} if it does no worse"
        )
    else:
        ended = output.local_time(canary.ended_at)
        yield f"v{canary.version} was {canary.state.value} {ended}: {canary.reason}"


async def promote(settings: Settings, name: str, *, json: bool) -> None:
    """Let an app's canary serve all of its requests."""
    async with server.running(settings) as client:
        with live.line(f"promoting the canary of `{name}`", plain=json):
            deployed = await client.deploys.promote(name)
    if json:
        output.show_json(deployed)
        return
    output.say(f"✓ v{deployed.version} of `{name}` serves all requests")
    output.out().print(f"{name} v{deployed.version}")
    output.show_endpoints(deployed.endpoints)
