"""`homeport image …`: lists and deletes the image layers that were built, and opens a shell in one."""

import asyncio
import subprocess
import sys
from typing import Annotated

import typer

from homeport.cli import live, options, output, server
from homeport.contract.errors import NotFound
from homeport.settings import Settings

app = typer.Typer(help="Images: list, log, prune, shell.", no_args_is_help=True)

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
SHOWN = 60  # how many characters of the last step are shown


@app.command("list")
def list_(json: options.Json = False) -> None:
    """List the image layers that were built, one for each step, the newest first."""
    asyncio.run(_list(options.load(), json=json))


@app.command()
def log(
    image: Annotated[str, typer.Argument(help="The beginning of a key of `image list`.")],
    json: options.Json = False,
) -> None:
    """Show what the build of a layer printed."""
    asyncio.run(_log(options.load(), image, json=json))


@app.command()
def prune(yes: options.Yes = False) -> None:
    """Delete layers that no app needs, neither now nor after a rollback."""
    asyncio.run(_prune(options.load(), yes=yes))


@app.command(context_settings={"ignore_unknown_options": True})
def shell(
    image: Annotated[
        str, typer.Argument(help="The beginning of a key of `image list`; empty: the newest.")
    ] = "",
    words: Annotated[
        list[str] | None, typer.Argument(help="A command instead of the shell.")
    ] = None,
) -> None:
    """Open a shell in an image of this machine; what it writes is removed when it ends."""
    root = options.load().home / "environments"
    command = [
        sys.executable,
        "-P",
        "-m",
        "homeport.node.images.shell",
        str(root),
        image,
        *(words or ()),
    ]
    raise typer.Exit(subprocess.run(command, check=False).returncode)


def size(count: float) -> str:
    """Bytes as people read them.

    >>> size(2048)
    '2.0 KiB'
    """
    for unit in UNITS:
        if count < 1024 or unit == UNITS[-1]:
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


async def _list(settings: Settings, *, json: bool) -> None:
    async with server.running(settings) as client:
        images = await client.images.every()
    if json:
        output.show_json(images)
        return
    rows = [
        (
            image.key,
            image.python_version,
            len(image.steps),
            shortened(image.steps[-1]),
            size(image.size_bytes),
            image.used_by,
            output.local_time(image.created_at),
            output.local_time(image.used_at),
        )
        for image in images
    ]
    columns = ("Image", "Python", "Steps", "Last step", "Size", "Used by", "Created at", "Used at")
    output.show_table(columns, rows, empty="no image has been built")


async def _log(settings: Settings, beginning: str, *, json: bool) -> None:
    async with server.running(settings) as client:
        keys = [
            image.key for image in await client.images.every() if image.key.startswith(beginning)
        ]
        if len(keys) != 1:
            raise NotFound(
                f"{len(keys) or 'no'} images have a key that begins with `{beginning}`",
                hint="`homeport image list` shows the keys",
            )
        text = await client.images.log(keys[0])
    if json:
        output.show_json({"key": keys[0], "text": text})
        return
    for line in text.splitlines():
        output.out().print(output.coloured(line, ""))
    if not text:
        output.say("its build printed nothing, or an earlier homeport has built it")


async def _prune(settings: Settings, *, yes: bool) -> None:
    async with server.running(settings) as client:
        await client.server.status()  # fail before the question if no server runs
        options.confirm(f"Remove every image that no app needs{options.there(settings)}?", yes=yes)
        with live.line("removing images"):
            removed = await client.images.prune()
    freed = size(sum(image.size_bytes for image in removed))
    output.say(f"✓ {output.counted(len(removed), 'image')} removed, {freed}")


def shortened(step: str) -> str:
    """Return a step as one short line."""
    line = " ".join(step.split())
    return line if len(line) <= SHOWN else f"{line[: SHOWN - 1]}…"
