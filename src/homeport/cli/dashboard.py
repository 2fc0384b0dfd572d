"""`homeport dashboard`: opens the dashboard by a link that logs in once."""

import asyncio
import os
import sys
from typing import Annotated

import typer

from homeport.cli import options, output, server
from homeport.contract.api.dashboard import CODE_S


def dashboard(
    no_open: Annotated[
        bool, typer.Option("--no-open", help="Print the link, and open no browser.")
    ] = False,
) -> None:
    """Open the dashboard in a browser, logged in with this command's permissions."""

    async def work() -> str:
        async with server.running(options.load()) as client:
            return (await client.dashboard.link()).url

    url = asyncio.run(work())
    output.out().file.write(f"{url}\n")
    output.out().file.flush()
    output.say(f"The link works once, and for {CODE_S:.0f} seconds; a session lasts 12 hours.")
    if not no_open and can_open(os.environ, is_terminal=sys.stderr.isatty()):
        import webbrowser

        # The browser's own messages are not this command's.
        webbrowser.open(url)


def can_open(environ: "os._Environ[str] | dict[str, str]", *, is_terminal: bool) -> bool:
    """Return whether a browser can be opened: for a person at a screen, and not over SSH.

    >>> can_open({"DISPLAY": ":0"}, is_terminal=True)
    True
    >>> can_open({"DISPLAY": ":0", "SSH_CONNECTION": "x"}, is_terminal=True), can_open({}, is_terminal=True)
    (False, False)
    >>> can_open({"WAYLAND_DISPLAY": "wayland-0"}, is_terminal=True)
    True
    """
    has_screen = sys.platform == "darwin" or "DISPLAY" in environ or "WAYLAND_DISPLAY" in environ
    return is_terminal and has_screen and "SSH_CONNECTION" not in environ
