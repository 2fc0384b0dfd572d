"""`homeport node join`: this machine becomes a node of another machine's homeport."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from typing import Annotated

import typer

from homeport import settings as all_settings
from homeport.cli import options, output
from homeport.cli.service import DryRun, From
from homeport.contract import joining, labels
from homeport.contract.errors import BadRequest, Failure

AGENT = ("-P", "-m", "homeport.node")
ONLY_JOIN = "--join"


Label = Annotated[
    list[str] | None,
    typer.Option(
        "--label",
        metavar="NAME=VALUE",
        help="Of this machine, such as region=eu; several times. `homeport node label` changes them.",
    ),
]
Reach = Annotated[
    str,
    typer.Option(
        "--reach",
        metavar="HOST:PORT",
        help="Where the first machine reaches the containers of this one; HOST is an IP address. "
        "[default: the address from which this machine connects, and port 7601]",
    ),
]


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
    label: Label = None,
    reach: Reach = "",
    foreground: Annotated[
        bool,
        typer.Option(
            "--foreground",
            help="Stay, start the agent again when it ends, and end it with Ctrl-C.",
        ),
    ] = False,
    service: Annotated[
        bool,
        typer.Option(
            "--service",
            help="Join, and install the agent as a service of systemd, which starts with the machine.",
        ),
    ] = False,
    source: From = "",
    dry_run: DryRun = False,
) -> None:
    """Be a node of another machine's homeport, until Ctrl-C; or, with --service, from now on."""
    if token == "-":  # noqa: S105 - standard input
        token = sys.stdin.readline().strip()
    chosen = labels.read(",".join(label or ()))
    variables = _variables(address, token, name, reach, chosen)
    if service:
        if foreground or not address:
            raise BadRequest(
                "`--service` needs the address and a token, and no `--foreground`",
                hint="`homeport node token`, on the first machine, prints the command",
            )
        _install(variables, source, dry_run=dry_run)
        return
    environ = dict(os.environ) | variables
    options.warn_unknown()
    if foreground:
        raise typer.Exit(_stay(environ))
    os.execve(sys.executable, [sys.executable, *AGENT], environ)  # noqa: S606 - it is the command from now on


def _variables(
    address: str, token: str, name: str, reach: str, chosen: Mapping[str, str]
) -> dict[str, str]:
    """Return the variables that tell the agent how to join."""
    if bool(address) != bool(token):
        raise BadRequest(
            "to join, a machine needs the address and a token",
            hint="`homeport node token`, on the first machine, prints the command",
        )
    variables = {joining.REACH: reach} if reach else {}
    if not address:
        if chosen or name:
            raise BadRequest(
                "a machine gets its name and its labels when it joins",
                hint="`homeport node label`, on the first machine, changes labels",
            )
        return variables
    own = socket.gethostname().partition(".")[0].lower()
    return variables | {
        joining.JOIN: f"{address} {name or own}",
        joining.TOKEN: token,
        joining.LABELS: labels.written(chosen),
    }


def _stay(environ: dict[str, str]) -> int:
    """Join, and keep an agent running."""
    from homeport.cli import foreground

    if joining.TOKEN in environ:
        joined = subprocess.run([sys.executable, *AGENT, ONLY_JOIN], env=environ, check=False)
        if joined.returncode:
            return joined.returncode
        for name in (joining.JOIN, joining.TOKEN, joining.LABELS):  # a token is for one time
            environ.pop(name, None)
    return foreground.run_agent(all_settings.of_server(environ).home, environ)


def _install(variables: Mapping[str, str], source: str, *, dry_run: bool) -> None:
    """Install the service; a machine that may not join keeps nothing but the user and the home."""
    from homeport.cli import service as services
    from homeport.cli import units, upgrading
    from homeport.cli.steps import carry_out

    service = units.Service(is_node=True)
    if not dry_run:
        services.check_machine()
        services.check_free()
    version = services.first_version(service, source)
    words = [str(service.python), *AGENT, ONLY_JOIN]
    if dry_run:
        carry_out(units.laid(service, **version), service, dry_run=True)
        output.out().print(f"runuser -u {service.user} -- {' '.join(words)}", soft_wrap=True)
        carry_out(units.started(service), service, dry_run=True)
        return
    with upgrading.alone(service.root):
        carry_out(units.laid(service, **version), service)
        joined = upgrading.as_user(service, words, environ=variables)
        if joined.returncode:
            shutil.rmtree(service.root / "versions" / version["version"], ignore_errors=True)
            raise _failure(joined.stderr)
        carry_out(units.started(service), service)
    upgrading.healthy(lambda: upgrading.ask(service), service, lambda _: True)
    output.say(f"✓ this machine is a node; it runs as {service.user}, and starts with the machine")
    output.say(f"logs: `journalctl -u {service.unit}`, or `homeport node logs` on the first one")


def _failure(printed: str) -> Failure:
    """Return the failure that an agent has printed."""
    text = printed.rpartition("error: ")[2] or "the agent printed nothing"
    message, _, hint = text.strip().partition("\n\nhint: ")
    return Failure(f"this machine could not join: {message}", hint=hint)
