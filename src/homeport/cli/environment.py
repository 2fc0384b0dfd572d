"""`homeport environment …` and `homeport workspace …`."""

import asyncio
from typing import Annotated

import typer

from homeport.cli import live, options, output, server, token
from homeport.contract.api.environments import EnvironmentChange, NewEnvironment, NewWorkspace
from homeport.settings import Settings

environments = typer.Typer(help="Environments: create, list, update, delete.", no_args_is_help=True)
workspaces = typer.Typer(
    help="Workspaces of the server: create, list, delete.", no_args_is_help=True
)

workspaces.add_typer(token.app, name="proxy-tokens")  # as Modal spells it

Name = Annotated[str, typer.Argument(metavar="NAME", help="The environment's name.")]
WorkspaceName = Annotated[str, typer.Argument(metavar="NAME", help="The workspace's name.")]


@environments.command("create")
def create_environment(
    name: Name,
    web_suffix: Annotated[
        str | None,
        typer.Option(
            help="In its URLs, after the workspace; the name by default.", show_default=False
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Create an environment, with apps, secrets, volumes, dicts and queues of its own."""
    asyncio.run(
        _create(options.load(), NewEnvironment(name=name, web_suffix=web_suffix), json=json)
    )


@environments.command("list")
def list_environments(json: options.Json = False) -> None:
    """List the environments; `active` is the one of commands without `-e`."""
    asyncio.run(_list(options.load(), json=json))


@environments.command()
def update(
    name: Name,
    web_suffix: Annotated[
        str,
        typer.Option("--set-web-suffix", "--web-suffix", help="Empty for none: one may have none."),
    ],
) -> None:
    """Change the web suffix of an environment in which no app serves."""
    asyncio.run(_update(options.load(), name, EnvironmentChange(web_suffix=web_suffix)))


@environments.command("delete")
def delete_environment(name: Name, yes: options.Yes = False) -> None:
    """Delete an environment: its apps stop, and everything in it is gone."""
    asyncio.run(_delete(options.load(environment=name), name, yes=yes))


@workspaces.command("create")
def create_workspace(name: WorkspaceName, json: options.Json = False) -> None:
    """Create a workspace, whose users see nothing of the others'."""
    asyncio.run(_create_workspace(options.load(), NewWorkspace(name=name), json=json))


@workspaces.command("list")
def list_workspaces(json: options.Json = False) -> None:
    """List the workspaces."""
    asyncio.run(_list_workspaces(options.load(), json=json))


@workspaces.command("delete")
def delete_workspace(name: WorkspaceName, yes: options.Yes = False) -> None:
    """Delete a workspace: its apps stop, and everything in it is gone."""
    options.confirm(f"Delete the workspace `{name}`, with its apps and all of their data?", yes=yes)
    asyncio.run(_delete_workspace(options.load(), name))


async def _create(settings: Settings, wanted: NewEnvironment, *, json: bool) -> None:
    async with server.background(settings) as client:
        created = await client.environments.create(wanted)
    if json:
        output.show_json(created)
        return
    output.say(
        f"✓ Environment `{created.name}`. `homeport deploy -e {created.name} script.py` deploys there."
    )


async def _list(settings: Settings, *, json: bool) -> None:
    async with server.running(settings) as client:
        listed = await client.environments.every()
    rows = [
        (environment.name, environment.web_suffix, str(environment.name == settings.environment))
        for environment in listed
    ]
    if json:
        columns = ("name", "web_suffix", "active")
        output.show_json([dict(zip(columns, row, strict=True)) for row in rows])
        return
    output.show_table(("Name", "Web suffix", "Active"), rows, empty="no environment")


async def _update(settings: Settings, name: str, change: EnvironmentChange) -> None:
    async with server.running(settings) as client:
        row = await client.environments.update(name, change)
    description = f"the web suffix `{row.web_suffix}`" if row.web_suffix else "no web suffix"
    output.say(f"✓ `{row.name}` has {description}.")


async def _delete(settings: Settings, name: str, *, yes: bool) -> None:
    async with server.running(settings) as client:
        apps = [app.name for app in await client.apps.every() if app.state.value != "stopped"]
        app_names = ", ".join(f"`{app}`" for app in apps)
        contents = f"its apps {app_names}" if apps else "no app, but"
        options.confirm(
            f"Delete the environment `{name}`, with {contents} and all secrets, volumes, dicts and queues in it?",
            yes=yes,
        )
        with live.line(f"deleting `{name}`"):
            count = await client.environments.delete(name)
    output.say(f"✓ Deleted the environment `{name}`; {output.counted(count, 'container')} ended")


async def _create_workspace(settings: Settings, wanted: NewWorkspace, *, json: bool) -> None:
    async with server.background(settings) as client:
        created = await client.environments.create_workspace(wanted)
    if json:
        output.show_json(created)
        return
    output.say(f"✓ Workspace `{created.name}`. Its users need tokens of their own.")


async def _list_workspaces(settings: Settings, *, json: bool) -> None:
    async with server.running(settings) as client:
        listed = await client.environments.workspaces()
    if json:
        output.show_json(listed)
        return
    rows = [
        (
            workspace.name,
            workspace.slug,
            workspace.environments,
            output.local_time(workspace.created_at or None),
        )
        for workspace in listed
    ]
    output.show_table(("Name", "URLs", "Environments", "Created at"), rows, empty="no workspace")


async def _delete_workspace(settings: Settings, name: str) -> None:
    async with server.running(settings) as client:
        with live.line(f"deleting `{name}`"):
            count = await client.environments.delete_workspace(name)
    output.say(f"✓ Deleted the workspace `{name}`; {output.counted(count, 'container')} ended")
