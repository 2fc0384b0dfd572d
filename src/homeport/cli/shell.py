"""`homeport shell`: a shell, or a command, in a container of a function."""

import asyncio
import dataclasses
import subprocess
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from homeport.cli import attached, options, output, script, server
from homeport.cli import session as sessions
from homeport.contract.errors import BadRequest, NotFound, ScriptError
from homeport.contract.manifest import FunctionSpec, Manifest
from homeport.contract.programs import Order
from homeport.settings import Settings

if TYPE_CHECKING:
    from homeport.client import Client

Pty = Annotated[
    bool | None,
    typer.Option(
        "--pty/--no-pty",
        help="Give it a terminal; by default if this command has one.",
        show_default=False,
    ),
]


def shell(
    ref: Annotated[
        str,
        typer.Argument(
            metavar="[REF]",
            help="script.py::function, APP::function of a deployed app, or a container (ta-…).",
        ),
    ] = "",
    cmd: Annotated[str, typer.Option("-c", "--cmd", help="A command instead of the shell.")] = "",
    image: Annotated[
        str, typer.Option(metavar="KEY", help="An image of `homeport image list` instead of REF.")
    ] = "",
    pty: Pty = None,
    environment: options.Environment = None,
    module: options.Module = False,
) -> None:
    """Open a shell in a container of a function, with its image, volumes, secrets and limits."""
    settings = options.load(environment=environment)
    argv = ["/bin/sh", "-c", cmd] if cmd else []
    if image or ref.startswith("im-"):
        if image and ref:
            raise BadRequest("`--image` and a function do not go together", hint="leave out one")
        raise typer.Exit(_in_image(settings, (image or ref).removeprefix("im-"), argv))
    if not ref:
        raise BadRequest(
            "`homeport shell` needs to know where",
            hint="`homeport shell script.py::function`, `homeport shell APP::function`, "
            "`homeport shell ta-…`, or `homeport shell --image KEY`",
        )
    terminal = attached.has_terminal(pty)
    raise typer.Exit(asyncio.run(_shell(settings, ref, argv, module=module, terminal=terminal)))


def _in_image(settings: Settings, key: str, argv: list[str]) -> int:
    root = settings.home / "environments"
    command = [sys.executable, "-P", "-m", "homeport.node.images.shell", str(root), key, *argv]
    return subprocess.run(command, check=False).returncode


async def _shell(
    settings: Settings, ref: str, argv: list[str], *, module: bool, terminal: bool
) -> int:
    order = attached.order(argv, terminal=terminal)
    target, _, function = ref.partition("::")
    if module or target.endswith(".py") or "/" in target:
        return await _in_script(settings, ref, order, module=module, terminal=terminal)
    async with server.running(settings) as client:
        if target.startswith("ta-"):
            where = {"container": target}
        else:
            where = {"app": target, "function": function or await _only(client, target)}
        async with client.programs.run(order, **where) as running:
            return await attached.attach(running, terminal=terminal)


async def _in_script(
    settings: Settings, ref: str, order: Order, *, module: bool, terminal: bool
) -> int:
    """Serve one function of a script as long as its shell lasts."""
    target, _, name = ref.partition("::")
    declared = await script.declare(target, module=module)
    spec = chosen(declared.manifest, name, target)
    for text in declared.warnings:
        output.warn(text)
    manifest = dataclasses.replace(declared.manifest, functions=(spec,))
    declared = dataclasses.replace(declared, manifest=manifest)
    show = sessions.Show(quiet=True)
    async with (
        server.borrowed(settings) as client,
        sessions.served(client, declared, show) as session,
        client.programs.run(
            order, app=declared.name, function=spec.name, session=session.id
        ) as running,
    ):
        show.is_muted = terminal  # a container's lines would be drawn into the program's screen
        return await attached.attach(running, terminal=terminal)


def chosen(manifest: Manifest, name: str, target: str) -> FunctionSpec:
    """Return the function that `target::name` names, or the only one."""
    functions = {function.name: function for function in manifest.functions}
    if not name and len(functions) == 1:
        return next(iter(functions.values()))
    function_found = functions.get(name) or functions.get(f"{name.partition('.')[0]}.*")
    if function_found is None or not name:
        names = " or ".join(f"`{target}::{function.removesuffix('.*')}`" for function in functions)
        raise ScriptError(
            f"there is no function `{name}` in `{target}`"
            if name
            else f"`{target}` has {len(functions)} functions",
            hint=f"name one: {names}" if names else "put `@app.function()` above a function",
        )
    return function_found


async def _only(client: "Client", app: str) -> str:
    """Return the only function of a deployed app."""
    matching = [app_row for app_row in (await client.server.status()).apps if app_row.name == app]
    if not matching:
        raise NotFound(
            f"no app `{app}` is deployed",
            hint=f"for a script: `homeport shell {app}.py`. `homeport app list` has the apps",
        )
    names = [function.name for function in matching[0].functions]
    if len(names) != 1:
        choices = " or ".join(f"`{app}::{name.removesuffix('.*')}`" for name in names)
        raise BadRequest(f"`{app}` has {len(names)} functions", hint=f"name one: {choices}")
    return names[0]
