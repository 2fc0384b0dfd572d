"""`homeport audit`: who changed what on the server."""

import asyncio
import time
from typing import TYPE_CHECKING, Annotated

import typer

from homeport.cli import options, output, server

if TYPE_CHECKING:
    from homeport.contract.api.audit import AuditEntry

#: `by` -> how the table shows it.
WHO = {"socket": "the server's own user", "token": "a token", "stranger": "a stranger"}
Environment = Annotated[
    str,
    typer.Option(
        "-e", "--env", metavar="NAME", help="Of this environment alone.", show_default=False
    ),
]


def audit(
    since: Annotated[
        str, typer.Option(help="Not older than this, such as 2h or 7d.", show_default=False)
    ] = "",
    user: Annotated[
        str,
        typer.Option(
            help="Of this user or token alone; also `socket`, `container`, `server` or `stranger`.",
            show_default=False,
        ),
    ] = "",
    app: Annotated[str, typer.Option(help="Of this app alone.", show_default=False)] = "",
    environment: Environment = "",
    tail: Annotated[int, typer.Option("-n", "--tail", help="The last so many.")] = 100,
    json: options.Json = False,
) -> None:
    """Show who changed what: deploys, stops, secrets, tokens, refused logins, and more."""
    from homeport.contract.api.audit import AuditQuery

    ago_s = options.seconds("--since", since)
    query = AuditQuery(
        since=0.0 if ago_s is None else time.time() - ago_s,
        user=user,
        app=app,
        environment=environment,
        tail=tail,
    )

    async def work() -> None:
        async with server.running(options.load()) as client:
            entries = await client.audit.entries(query)
        if json:
            output.show_json(entries)
            return
        columns = ("At", "Who", "From", "Action", "Result", "Environment", "App", "Target")
        output.show_table(columns, map(_row, entries), empty="nothing was changed")

    asyncio.run(work())


def _row(entry: "AuditEntry") -> tuple[object, ...]:
    user_and_token = " ".join(filter(None, (entry.user, entry.token)))
    environment = entry.environment
    if entry.workspace not in ("", "main"):
        environment = f"{entry.workspace}/{environment}"
    return (
        output.local_time(entry.at),
        user_and_token or WHO.get(entry.by, entry.by),
        entry.source or ("this machine" if entry.by in ("socket", "token") else ""),
        entry.action,
        entry.result,
        environment,
        entry.app,
        entry.target,
    )
