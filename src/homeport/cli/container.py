"""`homeport container …`: lists the running containers, shows their logs, runs programs in them, stops them."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from homeport.cli import attached, options, output, server
from homeport.cli.shell import Pty
from homeport.contract.api.logs import LogQuery
from homeport.contract.errors import NotFound
from homeport.settings import Settings

if TYPE_CHECKING:
    from homeport.contract.api.containers import ContainerStatus

app = typer.Typer(help="Containers: list, logs, exec, stop.", no_args_is_help=True)

Id = Annotated[str, typer.Argument(metavar="CONTAINER", help="ta-…")]


@app.command("list")
def list_(json: options.Json = False, environment: options.Environment = None) -> None:
    """List all containers, the newest first."""
    asyncio.run(_list(options.load(environment=environment), json=json))


@app.command()
def logs(
    container: Id,
    follow: options.Follow = False,
    tail: options.Tail = 100,
    timestamps: options.Timestamps = False,
    environment: options.Environment = None,
) -> None:
    """Show the lines that a running container has printed."""
    asyncio.run(
        _logs(options.load(environment=environment), container, follow, tail, timestamps=timestamps)
    )


@app.command("exec", context_settings={"allow_interspersed_args": False})
def execute(
    container: Id,
    words: Annotated[
        list[str],
        typer.Argument(metavar="COMMAND...", help="The program and its arguments."),
    ],
    pty: Pty = None,
    environment: options.Environment = None,
) -> None:
    """Run a program in a running container, with its files, variables, limits and rights."""
    words = words[1:] if words[0] == "--" else words
    terminal = attached.has_terminal(pty)
    raise typer.Exit(
        asyncio.run(
            _execute(options.load(environment=environment), container, words, terminal=terminal)
        )
    )


@app.command()
def stop(container: Id, yes: options.Yes = False, environment: options.Environment = None) -> None:
    """End a container; its requests finish first, and another one starts if it is needed."""
    asyncio.run(_stop(options.load(environment=environment), container, yes=yes))


async def _list(settings: Settings, *, json: bool) -> None:
    async with server.running(settings) as client:
        containers = await client.containers.every()
    if json:
        output.show_json(containers)
    else:
        show(containers)


def show(containers: "Sequence[ContainerStatus]") -> None:
    """Print a table of containers; with their nodes if there are several, and with their GPUs if one has any."""
    several = len({container.node for container in containers}) > 1
    has_gpus = any(container.gpus for container in containers)
    rows = [
        (
            container.id,
            container.app,
            container.function,
            container.state.value,
            *([container.node] if several else []),
            container.pid or "",
            output.local_time(container.started_at),
            *([" ".join(gpu[:12] for gpu in container.gpus)] if has_gpus else []),
        )
        for container in containers
    ]
    nodes, gpus = ["Node"] if several else [], ["GPUs"] if has_gpus else []
    columns = ("Container", "App", "Function", "State", *nodes, "Pid", "Started at", *gpus)
    output.show_table(columns, rows, empty="no container runs")


async def _logs(
    settings: Settings, container: str, follow: bool, tail: int, *, timestamps: bool
) -> None:
    async with server.running(settings) as client:
        app = next((c.app for c in await client.containers.every() if c.id == container), None)
        if app is None:
            raise NotFound(
                f"there is no container `{container}`",
                hint="`homeport container list` has those that run; `homeport app logs APP --container ID` "
                "has the lines of one that ended",
            )
        query = LogQuery(tail=tail, container=container, follow=follow)
        async for line in client.logs.read(app, query):
            output.show_line(line, timestamps=timestamps)


async def _execute(settings: Settings, container: str, words: list[str], *, terminal: bool) -> int:
    order = attached.order(words, terminal=terminal)
    async with (
        server.running(settings) as client,
        client.programs.run(order, container=container) as running,
    ):
        return await attached.attach(running, terminal=terminal)


async def _stop(settings: Settings, container: str, *, yes: bool) -> None:
    options.confirm(f"Stop the container `{container}`?", yes=yes)
    async with server.running(settings) as client:
        await client.containers.stop(container)
    output.say(f"✓ `{container}` is ending")
