"""`homeport node …`: other machines that run containers of this server."""

import asyncio
from typing import Annotated

import typer

from homeport.cli import joining, options, output, server
from homeport.contract import labels
from homeport.contract.errors import BadRequest
from homeport.settings import Settings

app = typer.Typer(
    help="Other machines: token, join, list, logs, label, drain, remove.", no_args_is_help=True
)
Node = Annotated[str, typer.Argument(metavar="NODE", help="Its name.")]
PLACEHOLDER = "ADDRESS-OF-THIS-MACHINE"


@app.command()
def token(
    listen: Annotated[
        str,
        typer.Option(
            "--listen",
            metavar="HOST:PORT",
            help="Where machines connect: the first token opens the port. [default: 0.0.0.0:7600]",
        ),
    ] = "",
    json: options.Json = False,
) -> None:
    """Make a token with which one machine may join, for an hour."""
    asyncio.run(_token(options.load(), listen, json=json))


app.command("join")(joining.join)


@app.command("list")
def list_(json: options.Json = False) -> None:
    """List the machines that have joined."""
    asyncio.run(_list(options.load(), json=json))


@app.command()
def logs(
    node: Node,
    follow: options.Follow = False,
    tail: options.Tail = 100,
) -> None:
    """Show what the agent of a machine logs; `homeport app logs` has the lines of containers."""
    asyncio.run(_logs(options.load(), node, follow=follow, tail=tail))


@app.command()
def label(
    node: Node,
    changes: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME=VALUE...", help="Labels to set; NAME= without a value removes one."
        ),
    ],
) -> None:
    """Change the labels of a machine, such as `region=eu`; containers that run stay where they are."""
    asyncio.run(_label(options.load(), node, changes))


@app.command()
def drain(
    node: Node,
    undo: Annotated[bool, typer.Option("--undo", help="Take it back into use.")] = False,
) -> None:
    """Start nothing new on a machine, and replace its containers."""
    asyncio.run(_drain(options.load(), node, on=not undo))


@app.command()
def remove(node: Node, yes: options.Yes = False) -> None:
    """Revoke a machine's certificate: it ends its containers, and may not connect any more."""
    settings = options.load()
    options.confirm(f"Remove the node `{node}`{options.there(settings)}?", yes=yes)
    asyncio.run(_remove(settings, node))


async def _token(settings: Settings, listen: str, *, json: bool) -> None:
    from homeport.contract.api.nodes import NewNodeToken

    async with server.running(settings) as client:
        token = await client.nodes.token(NewNodeToken(listen=listen))
    if json:
        output.show_json(token)
        return
    host = token.address or PLACEHOLDER
    host = f"[{host}]" if ":" in host else host
    output.say("on the other machine, within an hour:")
    output.out().print(
        f"homeport node join {host}:{token.port} --token {token.token}", soft_wrap=True
    )


async def _list(settings: Settings, *, json: bool) -> None:
    async with server.running(settings) as client:
        nodes = await client.nodes.every()
    if json:
        output.show_json(nodes)
        return
    table = [
        (
            node.name,
            "drained" if node.drained else node.health,
            str(node.containers),
            "?" if node.cores is None else str(node.cores),
            "?" if node.memory_mib is None else f"{node.memory_mib} MiB",
            "?" if node.free_mib is None else f"{node.free_mib} MiB",
            "" if node.round_trip_ms is None else f"{node.round_trip_ms:g} ms",
            ", ".join(map(str, node.entrance)),
            node.version,
            labels.written(node.labels),
        )
        for node in nodes
    ]
    columns = (
        "Node", "State", "Containers", "Cores", "Memory", "Free disk", "Round trip", "Entrance", "homeport", "Labels",
    )  # fmt: skip
    output.show_table(columns, table, empty="no other machine has joined: `homeport node token`")


async def _logs(settings: Settings, node: str, *, follow: bool, tail: int) -> None:
    from homeport.contract.api.nodes import NodeLogQuery

    query = NodeLogQuery(tail=tail, follow=follow)
    async with server.running(settings) as client:
        async for line in client.nodes.logs(node, query):
            output.out().print(output.coloured(line.text, ""), soft_wrap=True)


async def _label(settings: Settings, node: str, changes: list[str]) -> None:
    async with server.running(settings) as client:
        changed = await client.nodes.label(node, _changes(changes))
    shown = labels.written(changed.labels) or "no labels"
    output.say(f"✓ `{changed.name}` has {shown}")


def _changes(words: list[str]) -> dict[str, str]:
    """Return label -> value; an empty value removes the label.

    >>> _changes(["region=eu", "disk="])
    {'region': 'eu', 'disk': ''}
    """
    changes = {}
    for word in words:
        name, is_given, value = word.partition("=")
        if not is_given or not name:
            raise BadRequest(f"`{word}` is not a label", hint="write NAME=VALUE: `region=eu`")
        changes[name] = value
    labels.check({name: value for name, value in changes.items() if value})
    return changes


async def _drain(settings: Settings, node: str, *, on: bool) -> None:
    async with server.running(settings) as client:
        await client.nodes.drain(node, on=on)
    output.say(
        f"✓ `{node}` gets no new containers, and those that it has are replaced"
        if on
        else f"✓ `{node}` gets containers again"
    )


async def _remove(settings: Settings, node: str) -> None:
    async with server.running(settings) as client:
        await client.nodes.remove(node)
    output.say(f"✓ `{node}` is removed")
