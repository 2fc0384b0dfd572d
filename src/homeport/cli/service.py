"""`homeport service`: a service of systemd that starts with the machine. The steps are in `units`."""

import contextlib
import json as jsonlib
import os
import pwd
import secrets
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

from homeport.cli import options, output, units
from homeport.cli.steps import carry_out
from homeport.cli.units import Link, Run, Service
from homeport.contract.errors import AlreadyExists, BadRequest, Failure, NotFound

HEALTHY_S = 120.0  # how long a new version may take until it serves
LOOK_S = 0.25
KEPT_VERSIONS = 2  # the one that runs, and the one before
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
        _check_machine()
    if (service.units / service.unit).exists() and not dry_run:
        raise AlreadyExists(
            "the service is installed", hint="`homeport service upgrade` replaces its version"
        )
    known = _subordinate_ids()
    steps = units.install(
        service,
        version=_fresh_version(),
        source=_source(source),
        uv=_uv(),
        python=_python(service),
        has_user=_has_user(user),
        has_config=(home / "config.toml").exists(),
        subordinates=None if user in known else units.free_subordinates(*known.values()),
    )
    carry_out(steps, service, dry_run=dry_run)
    if not dry_run:
        status = _healthy(service, lambda _: True)
        output.say(f"homeport {status['version']} runs as {user}, and starts with the machine")
        output.say(f"logs: `journalctl -u {service.unit}`; settings: {home / 'config.toml'}")


@app.command()
def status(json: options.Json = False) -> None:
    """Show the service, its versions and what it serves."""
    service = _installed()
    told = _show(service)
    answer = _status(service)
    versions = sorted(path.name for path in (service.root / "versions").glob("*"))
    current = _current(service)
    if json:
        output.show_json({"unit": told, "server": answer, "versions": versions, "current": current})
        return
    output.out().print(
        f"{service.unit}: {told['ActiveState']} ({told['SubState']}), pid {told['MainPID']}"
    )
    output.out().print(f"user {service.user}, home {service.home}, version {current}")
    if answer is None:
        output.warn(f"the server does not answer; `journalctl -u {service.unit}` may say why")
        raise typer.Exit(1)
    output.out().print(
        f"homeport {answer['version']}, pid {answer['pid']}, {len(answer['apps'])} apps"
    )


@app.command()
def upgrade(source: From = "", dry_run: DryRun = False) -> None:
    """Replace the running version without losing a request; go back if the new one does not serve."""
    service = _installed()
    version, before = _fresh_version(), _current(service)
    steps = units.environment(
        service, version=version, source=_source(source), uv=_uv(), python=_python(service)
    )
    forward = Link(service.root / "current", f"versions/{version}")
    reload = Run(("systemctl", "reload", service.unit))
    if dry_run:
        carry_out([*steps, forward, reload], service, dry_run=True)
        return
    _check_machine()
    place = service.root / "versions" / version
    old = _status(service)
    if old is None:
        raise NotFound("the server does not answer", hint="`homeport service status`")
    try:
        carry_out(steps, service)
        _rehearse(service, place / "bin/python")
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    broken = _broken(old)
    try:
        carry_out([forward, reload], service)
        new = _healthy(service, lambda now: now["pid"] != old["pid"] and _broken(now) <= broken)
    except Failure as failure:
        _go_back(service, before, failure, old["pid"])
        shutil.rmtree(place, ignore_errors=True)
        raise
    _forget_versions(service, {version, before})
    output.say(f"homeport {new['version']} serves; before it was {old['version']}")


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
    _check_machine()
    lost = f"delete {service.home} with everything in it" if purge else f"keep {service.home}"
    options.confirm(f"Stop homeport, end its containers, and {lost}?", yes=yes)
    carry_out(steps, service)
    output.say(
        "homeport is not installed any more" + ("" if purge else f"; {service.home} is kept")
    )


def _healthy(service: Service, accept: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Wait until the server answers as it should; return its status."""
    deadline = time.monotonic() + HEALTHY_S
    told: dict[str, Any] | None = None
    while time.monotonic() < deadline:
        told = _status(service)
        if told is not None and not told["trouble"] and accept(told):
            return told
        time.sleep(LOOK_S)
    why = "it does not answer"
    if told is not None:
        why = told["trouble"] or ", ".join(f"`{name}` is broken" for name in _broken(told)) or why
    raise Failure(
        f"the server does not serve after {HEALTHY_S:g} s: {why}",
        hint=f"`journalctl -u {service.unit}` may say why",
    )


def _status(service: Service) -> dict[str, Any] | None:
    """Return what the server says of itself, asked as its user; None if it does not answer."""
    words = [str(service.python), "-m", "homeport", "status", "--json"]
    done = _as_user(service, words)
    if done.returncode:
        return None
    answer: dict[str, Any] = jsonlib.loads(done.stdout)
    return answer


def _as_user(
    service: Service, words: Sequence[str], *, input_text: str | None = None
) -> "subprocess.CompletedProcess[str]":
    user = pwd.getpwnam(service.user)
    return subprocess.run(
        words,
        input=input_text,
        stdin=subprocess.DEVNULL if input_text is None else None,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        user=user.pw_uid,
        group=user.pw_gid,
        extra_groups=[],
        env={
            "PATH": "/usr/bin:/bin",
            "HOMEPORT_HOME": str(service.home),
            "HOME": str(service.home),
        },
    )


def _rehearse(service: Service, python: Path) -> None:
    """Let the new version read the settings and migrate a copy of the database, before anything is changed."""
    done = _as_user(service, [str(python), "-m", "homeport.state", "--rehearse"])
    if done.returncode == 0:
        return
    try:
        failure = Failure.from_dict(jsonlib.loads(done.stdout)["error"])
    except (ValueError, KeyError):
        raise Failure(
            "the new version cannot run here; nothing has been changed",
            traceback=done.stderr.strip(),
        ) from None
    raise failure


def _go_back(service: Service, version: str, failure: Failure, old_pid: int) -> None:
    """Start the version before; its database too, if the new one has migrated it."""
    output.warn(f"{failure.message}; going back")
    carry_out([Link(service.root / "current", f"versions/{version}")], service)
    if _status(service) is None:
        _as_user(service, [str(service.python), "-m", "homeport.state", "--go-back"])
    carry_out([Run(("systemctl", "reload-or-restart", service.unit), may_fail=True)], service)
    with contextlib.suppress(Failure):
        now = _healthy(service, lambda now: now["pid"] != old_pid)
        failure.hint = f"homeport {now['version']} serves again; {failure.hint}"


def _forget_versions(service: Service, keep: set[str]) -> None:
    for path in (service.root / "versions").iterdir():
        if path.name not in keep:
            shutil.rmtree(path, ignore_errors=True)


def _broken(status: dict[str, Any]) -> set[str]:
    return {app["name"] for app in status["apps"] if app["state"] == "broken"}


def _current(service: Service) -> str:
    try:
        return (service.root / "current").readlink().name
    except OSError:
        raise NotFound(f"there is no version in {service.root}") from None


def _show(service: Service) -> dict[str, str]:
    names = ("ActiveState", "SubState", "MainPID", "UnitFileState")
    words = ["systemctl", "show", service.unit, *(f"--property={name}" for name in names)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    told = dict(line.partition("=")[::2] for line in done.stdout.splitlines())
    return {name: told.get(name, "unknown") for name in names}


def _installed() -> Service:
    path = units.UNITS / "homeport.service"
    try:
        return units.installed(path.read_text())
    except FileNotFoundError:
        raise NotFound(
            "homeport is not installed as a service",
            hint="`homeport service install --domain apps.example.com --email you@example.com`",
        ) from None


def _check_machine() -> None:
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


def _source(wanted: str) -> list[str]:
    """Return what uv is told to install: with what is needed for PostgreSQL, which a later setting may name."""
    if not wanted:
        direct = metadata.distribution("homeport").read_text("direct_url.json")
        told: dict[str, Any] = jsonlib.loads(direct) if direct else {}
        wanted = str(told.get("url", "")) or f"=={metadata.version('homeport')}"
        if told.get("vcs_info"):
            wanted = f"{told['vcs_info']['vcs']}+{wanted}@{told['vcs_info']['commit_id']}"
    if wanted.startswith(("==", ">=", "<", "~=")):
        return [f"homeport[postgres]{wanted}"]
    if wanted[0].isdigit() and "/" not in wanted:
        return [f"homeport[postgres]=={wanted}"]
    url = wanted if "://" in wanted else Path(wanted).absolute().as_uri()
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
    known: dict[str, str] = {}
    for name in ("/etc/subuid", "/etc/subgid"):
        with contextlib.suppress(OSError):
            for line in Path(name).read_text().splitlines():
                user = line.partition(":")[0]
                known[user if user not in known else f"{user} in {name}"] = line
    return known
