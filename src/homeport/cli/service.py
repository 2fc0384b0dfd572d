"""`homeport service`: a service of systemd that starts with the machine. The steps are in `units`."""

import contextlib
import json as jsonlib
import os
import pwd
import secrets
import stat
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from homeport.cli import options, output, units, upgrading
from homeport.cli.steps import carry_out
from homeport.cli.units import Link, Run, Service
from homeport.contract.errors import AlreadyExists, BadRequest, NotFound

SYSTEMD = Path("/run/systemd/system")

app = typer.Typer(help="Run homeport as a service of systemd.", no_args_is_help=True)

DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print every file and command, and do nothing.")
]
From = Annotated[
    str,
    typer.Option(
        "--from",
        metavar="SOURCE",
        help="What to install: a version, a wheel, a directory; by default what this command is.",
        show_default=False,
    ),
]


@app.command()
def install(
    domain: Annotated[str, typer.Option(help="URLs are `<workspace>--<name>.DOMAIN`.")],
    email: Annotated[str, typer.Option(help="Your address, for the certificates' authority.")] = "",
    tls: Annotated[str, typer.Option(help="acme, files, local or off: see the setting.")] = "acme",
    user: Annotated[str, typer.Option(help="The user that the server runs as.")] = "homeport",
    home: Annotated[Path, typer.Option(help="Where everything is kept.")] = Path(
        "/var/lib/homeport"
    ),
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "0.0.0.0",  # noqa: S104
    source: From = "",
    dry_run: DryRun = False,
) -> None:
    """Install the service, start it, and let it start with the machine."""
    service = Service(domain=domain, email=email, tls=tls, user=user, home=home, host=host)
    _check_settings(service)
    if not dry_run:
        check_machine()
        check_free()
    steps = units.install(
        service, has_config=(home / "config.toml").exists(), **first_version(service, source)
    )
    with contextlib.nullcontext() if dry_run else upgrading.alone(service.root):
        carry_out(steps, service, dry_run=dry_run)
    if not dry_run:
        status = upgrading.healthy(lambda: upgrading.ask(service), service, lambda _: True)
        upgrading.note(service, "service install", "ok", upgrading.current(service))
        output.say(f"homeport {status['version']} runs as {user}, and starts with the machine")
        output.say(f"logs: `journalctl -u {service.unit}`; settings: {home / 'config.toml'}")


@app.command()
def status(json: options.Json = False) -> None:
    """Show the service, its versions and what it serves; the last needs root, or the service's user."""
    service = _installed()
    unit_state = upgrading.show(service)
    may_ask = os.geteuid() == 0 or upgrading.is_user(service.user)
    answer = upgrading.answer(service, unit_state) if may_ask else None
    versions = sorted(path.name for path in (service.root / "versions").glob("*"))
    current = upgrading.current(service)
    if json:
        output.show_json(
            {
                "unit": unit_state,
                "server": answer,
                "may_ask": may_ask,
                "versions": versions,
                "current": current,
            }
        )
        return
    output.out().print(
        f"{service.unit}: {unit_state['ActiveState']} ({unit_state['SubState']}), pid {unit_state['MainPID']}"
    )
    output.out().print(f"user {service.user}, home {service.home}, version {current}")
    if not may_ask:
        output.say(
            f"what it serves only root and the user {service.user} may see: "
            "`sudo homeport service status`"
        )
        return
    if answer is None:
        output.warn(f"the server does not answer; `journalctl -u {service.unit}` may say why")
        raise typer.Exit(1)
    what = "the agent of a node" if service.is_node else output.counted(len(answer["apps"]), "app")
    output.out().print(f"homeport {answer['version']}, pid {answer['pid']}, {what}")


@app.command(
    context_settings={
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "allow_interspersed_args": False,
    }
)
def run(context: typer.Context) -> None:
    """Run a command in the service's home, as its user: `sudo homeport service run app list`."""
    service = _installed()
    if not context.args:
        raise BadRequest("a command is needed", hint="`sudo homeport service run app list`")
    if os.geteuid() != 0 and not upgrading.is_user(service.user):
        raise BadRequest(
            f"only root and the user {service.user} run commands of the service",
            hint=f"`sudo homeport service run {' '.join(context.args)}`",
        )
    upgrading.become(service, [str(service.python), "-P", "-m", "homeport", *context.args])


@app.command()
def upgrade(source: From = "", dry_run: DryRun = False) -> None:
    """Replace the running version without losing a request; go back if the new one does not serve."""
    service, version = _installed(), _fresh_version()
    steps = units.environment(
        service, version=version, source=_source(source), uv=_uv(), python=_python(service)
    )
    if dry_run:
        forward = Link(service.root / "current", f"versions/{version}")
        reload = Run(("systemctl", "reload", service.unit))
        carry_out([*steps, forward, reload], service, dry_run=True)
        return
    check_machine()
    upgrading.Upgrade(service=service, version=version, steps=steps).run()


@app.command()
def uninstall(
    purge: Annotated[
        bool,
        typer.Option("--purge", help="Delete the home and the user too: apps, secrets, volumes."),
    ] = False,
    yes: options.Yes = False,
    dry_run: DryRun = False,
) -> None:
    """Stop the service and remove it; the home stays, unless `--purge` deletes it."""
    service = _installed()
    steps = units.uninstall(service, purge=purge)
    if dry_run:
        carry_out(steps, service, dry_run=True)
        return
    check_machine()
    lost = f"delete {service.home} with everything in it" if purge else f"keep {service.home}"
    options.confirm(f"Stop homeport, end its containers, and {lost}?", yes=yes)
    with upgrading.alone(service.root):
        if not purge:
            upgrading.note(service, "service uninstall", "ok", upgrading.current(service))
        carry_out(steps, service)
    output.say(
        "homeport is not installed any more" + ("" if purge else f"; {service.home} is kept")
    )


def check_free() -> None:
    """Raise `AlreadyExists` if this machine has a service of homeport."""
    for name in (units.UNIT, units.NODE_UNIT):
        if (units.UNITS / name).exists():
            raise AlreadyExists(
                f"the service {name} is installed",
                hint="`homeport service upgrade` replaces its version, and `homeport service uninstall` removes it",
            )


def first_version(service: Service, source: str) -> dict[str, Any]:
    """Return the arguments of `units.laid`, for the homeport that `--from` names."""
    ids_by_user = _subordinate_ids()
    has_ids = service.user in ids_by_user
    return {
        "version": _fresh_version(),
        "source": _source(source),
        "uv": _uv(),
        "python": _python(service),
        "has_user": _has_user(service.user),
        "subordinates": None if has_ids else units.free_subordinates(*ids_by_user.values()),
    }


def _installed() -> Service:
    for name in (units.UNIT, units.NODE_UNIT):
        with contextlib.suppress(FileNotFoundError):
            return units.installed((units.UNITS / name).read_text())
    raise NotFound(
        "homeport is not installed as a service",
        hint="`homeport service install --domain apps.example.com --email you@example.com`",
    )


def check_machine() -> None:
    """Raise `BadRequest` unless this is root, on a machine with systemd."""
    if os.geteuid() != 0:
        raise BadRequest("a service is installed by root", hint="run it with `sudo`")
    if not SYSTEMD.is_dir():
        raise BadRequest(
            "this machine does not run systemd",
            hint="`homeport up --foreground` stays, and starts the server again when it ends: let your "
            "service manager start that",
        )


def _check_settings(service: Service) -> None:
    """Read the settings as the server will, so that a mistake is found before anything is changed."""
    import tempfile

    from homeport import settings

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.toml"
        path.write_text(units.config(service))
        settings.read_config(path)


def _fresh_version() -> str:
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"


def _source(requirement: str) -> list[str]:
    """Return the requirement that uv installs: with the packages for PostgreSQL, because a later setting may name
    it.
    """
    if not requirement:
        direct = metadata.distribution("homeport").read_text("direct_url.json")
        direct_url: dict[str, Any] = jsonlib.loads(direct) if direct else {}
        requirement = str(direct_url.get("url", "")) or f"=={metadata.version('homeport')}"
        if direct_url.get("vcs_info"):
            requirement = f"{direct_url['vcs_info']['vcs']}+{requirement}@{direct_url['vcs_info']['commit_id']}"
    if requirement.startswith(("==", ">=", "<", "~=")):
        return [f"homeport[postgres]{requirement}"]
    if requirement[0].isdigit() and "/" not in requirement:
        return [f"homeport[postgres]=={requirement}"]
    url = requirement if "://" in requirement else Path(requirement).absolute().as_uri()
    return [f"homeport[postgres] @ {url}"]


def _uv() -> str:
    from uv import find_uv_bin

    return str(find_uv_bin())


def _python(service: Service) -> str:
    """Return this interpreter, if the service's user can read it; else a version, which uv downloads."""
    base = Path(sys.base_prefix).resolve()
    private = (service.home, Path("/root"), Path("/home"))
    open_to_all = all(
        stat.S_IMODE(path.stat().st_mode) & 0o005 == 0o005 for path in (base, *base.parents)
    )
    if open_to_all and not any(base.is_relative_to(path) for path in private):
        return str(base / "bin" / f"python{sys.version_info[0]}.{sys.version_info[1]}")
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def _has_user(name: str) -> bool:
    with contextlib.suppress(KeyError):
        pwd.getpwnam(name)
        return True
    return False


def _subordinate_ids() -> dict[str, str]:
    """Return user -> its line of /etc/subuid, and of /etc/subgid under another key."""
    lines_by_user: dict[str, str] = {}
    for name in ("/etc/subuid", "/etc/subgid"):
        with contextlib.suppress(OSError):
            for line in Path(name).read_text().splitlines():
                user = line.partition(":")[0]
                lines_by_user[user if user not in lines_by_user else f"{user} in {name}"] = line
    return lines_by_user
