"""`homeport node …`: other machines. In the making, and hidden: their containers cannot call functions yet."""

import asyncio
import os
import socket
import sys
from typing import Annotated

import typer

from homeport.cli import options, output, server
from homeport.contract import joining
from homeport.contract.errors import BadRequest
from homeport.settings import Settings

app = typer.Typer(
    help="Other machines: token, join, list, drain, remove. In the making.",
    no_args_is_help=True,
    hidden=True,
)
Node = Annotated[str, typer.Argument(metavar="NODE", help="Its name.")]


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


@app.command()
def join(
    address: Annotated[
        str, typer.Argument(metavar="ADDRESS", help="Of the first machine; only to join.")
    ] = "",
    token: Annotated[
        str,
        typer.Option(
            "--token", metavar="TOKEN", help="Of `homeport node token`; only to join. - reads it."
        ),
    ] = "",
    name: Annotated[
        str,
        typer.Option("--name", metavar="NAME", help="Of this machine. [default: its host name]"),
    ] = "",
    reach: Annotated[
        str,
        typer.Option(
            "--reach",
            metavar="HOST:PORT",
            help="Where the first machine reaches the containers of this one; HOST is an IP address. "
            "[default: the address from which this machine connects, and port 7601]",
        ),
    ] = "",
) -> None:
    """Be a node of another machine's homeport, until Ctrl-C."""
    if bool(address) != bool(token):
        raise BadRequest(
            "to join, a machine needs the address and a token",
            hint="`homeport node token`, on the first machine, prints the command",
        )
    if token == "-":  # noqa: S105 - standard input
        token = sys.stdin.readline().strip()
    environ = dict(os.environ) | ({joining.REACH: reach} if reach else {})
    if address:
        own = socket.gethostname().partition(".")[0].lower()
        environ |= {
            joining.JOIN: f"{address} {name or own}",
            joining.TOKEN: token,
        }
    os.execve(sys.executable, [sys.executable, "-m", "homeport.node"], environ)  # noqa: S606 - it is the command from now on


@app.command("list")
def list_(json: options.Json = False) -> None:
    """List the machines that have joined."""
    asyncio.run(_list(options.load(), json=json))


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
    options.confirm(f"Remove the node `{node}`?", yes=yes)
    asyncio.run(_remove(options.load(), node))


async def _token(settings: Settings, listen: str, *, json: bool) -> None:
    from homeport.contract.api.nodes import NewNodeToken

    async with server.running(settings) as client:
        token = await client.nodes.token(NewNodeToken(listen=listen))
    if json:
        output.show_json(token)
        return
    is_any = token.host in ("0.0.0.0", "::")  # noqa: S104 - all addresses
    host = "ADDRESS-OF-THIS-MACHINE" if is_any else token.host
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
        )
        for node in nodes
    ]
    columns = ("Node", "State", "Containers", "Cores", "Memory")
    output.show_table(columns, table, empty="no other machine has joined")


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
