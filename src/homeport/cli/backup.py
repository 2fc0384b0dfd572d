"""`homeport backup` and `homeport restore`."""

import asyncio
import contextlib
import dataclasses
import json as jsonlib
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from homeport.cli import live, options, output, server
from homeport.contract.errors import AlreadyExists, BadRequest, Failure, ServerUnreachable
from homeport.settings import Settings

if TYPE_CHECKING:
    from homeport.contract.api.server import Status

MAX_PASSPHRASE_BYTES = 4096

File = Annotated[Path, typer.Argument(help="The backup, such as homeport.backup.")]
Replace = Annotated[bool, typer.Option("--force", help="Replace a file of that name.")]
Force = Annotated[
    bool,
    typer.Option(
        "--force",
        help="Replace what the home has; a server that runs is ended, and started again.",
    ),
]
PassphraseFile = Annotated[
    str,
    typer.Option(
        metavar="FILE",
        help="Read the passphrase from the first line of a file; `-` is standard input.",
        show_default=False,
    ),
]


def backup(
    file: File,
    volumes: Annotated[
        bool, typer.Option("--volumes", help="Add the files of every volume.")
    ] = False,
    volume: Annotated[
        list[str] | None,
        typer.Option("--volume", metavar="NAME", help="Add the files of one volume; repeatable."),
    ] = None,
    passphrase_file: PassphraseFile = "",
    no_passphrase: Annotated[
        bool,
        typer.Option(
            "--no-passphrase", help="Everybody who has the file can then read every secret in it."
        ),
    ] = False,
    force: Replace = False,
    json: options.Json = False,
) -> None:
    """Write everything that the home keeps into one file, also while the server runs.

    The keys in it are encrypted under a passphrase, which is asked for.
    """
    settings = _here(options.load())
    if no_passphrase and passphrase_file:
        raise BadRequest("`--no-passphrase` and `--passphrase-file` exclude each other")
    passphrase = "" if no_passphrase else _passphrase(passphrase_file, new=True)
    wanted = None if volumes else volume or []
    with live.line(f"writing {file}", plain=json):
        summary = ask(
            settings, "backup", file=file, force=force, passphrase=passphrase, volumes=wanted
        )
    if json:
        output.show_json(summary)
        return
    output.say(f"{_contents(summary)} are in {file}")
    if not passphrase:
        output.warn("it has no passphrase: everybody who has the file has the secrets")
    _say_volumes(summary, settings, "`--volumes` adds them")
    if summary["missing"]:
        output.warn(f"{summary['missing']} files of versions are missing in the home itself")


def restore(
    file: File,
    passphrase_file: PassphraseFile = "",
    force: Force = False,
    yes: Annotated[
        bool,
        typer.Option(
            "-y", "--yes", help="Do not ask before a file without a passphrase is restored."
        ),
    ] = False,
    json: options.Json = False,
) -> None:
    """Make the home what a backup has: all of it, or nothing is changed."""
    settings = _here(options.load())
    passphrase = ""
    if ask(settings, "lock", file=file)["has_passphrase"] or passphrase_file:
        passphrase = _passphrase(passphrase_file, new=False)
    else:
        _confirm_unprotected(file, yes=yes)
    with live.line(f"restoring {file}", plain=json):
        summary = asyncio.run(_restore(settings, file, passphrase, force=force))
    if json:
        output.show_json(summary)
        return
    made_at = time.strftime("%Y-%m-%d %H:%M", time.localtime(summary["made_at"]))
    output.say(f"{_contents(summary)} are back, as of {made_at}")
    _say_volumes(summary, settings, "put your copy of them there")


def _passphrase(file: str, *, new: bool) -> str:
    """Return the passphrase: the first line of the file, or the user's hidden input."""
    if file == "-":
        return _first_line(sys.stdin.buffer.read(MAX_PASSPHRASE_BYTES), "standard input")
    if file:
        try:
            with Path(file).open("rb") as opened:
                return _first_line(opened.read(MAX_PASSPHRASE_BYTES), file)
        except OSError as error:
            raise BadRequest(f"{file} cannot be read: {error.strerror}") from None
    if not sys.stdin.isatty():
        raise BadRequest(
            "a passphrase is needed, and there is no terminal to ask for it",
            hint="`--passphrase-file FILE` reads it from a file"
            + (", `--no-passphrase` makes a backup without one" if new else ""),
        )
    typed: str = typer.prompt("Passphrase", hide_input=True, confirmation_prompt=new, err=True)
    return typed


def _confirm_unprotected(file: Path, *, yes: bool) -> None:
    """Ask before a file of unknown origin is restored: its settings can name commands, for example."""
    if not yes and not sys.stdin.isatty():
        raise BadRequest(
            f"{file} has no passphrase, so anybody may have written it, and there is no terminal to ask on",
            hint="nothing has been changed; `--yes` restores it, if you know where it comes from",
        )
    question = f"{file} has no passphrase, so anybody may have written it. Restore it?"
    options.confirm(question, yes=yes)


def _first_line(data: bytes, source: str) -> str:
    line = data.partition(b"\n")[0].removesuffix(b"\r")
    if not line:
        raise BadRequest(f"there is no passphrase in the first line of {source}")
    return line.decode("utf-8", "surrogateescape")


def ask(
    settings: Settings,
    what: str,
    *,
    file: Path | None = None,
    force: bool = False,
    patience_s: float | None = None,
    **more: Any,
) -> Any:
    """Return the answer of `python -m homeport.state`, because a command never imports that room.

    `subprocess.TimeoutExpired` if there is none within `patience_s`.
    """
    sent_settings = {**dataclasses.asdict(settings), "home": str(settings.home)}
    request = {
        "do": what,
        "settings": sent_settings,
        "file": str(file.absolute()) if file else "",
        "force": force,
        **more,
    }
    result = subprocess.run(
        [sys.executable, "-P", "-m", "homeport.state"],
        input=jsonlib.dumps(request),
        capture_output=True,
        text=True,
        check=False,
        timeout=patience_s,
    )
    try:
        answer = jsonlib.loads(result.stdout)
    except ValueError:
        raise RuntimeError(f"`python -m homeport.state` failed:\n{result.stderr}") from None
    if "error" in answer:
        raise Failure.from_dict(answer["error"])
    return answer


async def _restore(settings: Settings, file: Path, passphrase: str, *, force: bool) -> Any:
    status = await _status(settings)
    if status is None:
        return ask(settings, "restore", file=file, force=force, passphrase=passphrase)
    if not force:
        raise AlreadyExists(
            f"a server uses {settings.home}: nothing has been changed",
            hint="`homeport down` ends it; `--force` ends it, restores, and starts it again",
        )
    if status.keeper is not None:
        raise AlreadyExists(
            f"a server uses {settings.home}, and `homeport up --foreground` (pid {status.keeper}) starts it "
            "again when it ends: nothing has been changed",
            hint="end it first, and start it again after the restore; a service: `systemctl stop homeport`, and "
            "`systemctl start homeport`",
        )
    ask(settings, "check", file=file, passphrase=passphrase)  # before anything ends
    with _interrupts_noted() as interrupts:
        await server.down(settings)
        try:
            return ask(settings, "restore", file=file, force=True, passphrase=passphrase)
        except Exception:
            if not interrupts:
                raise
            # The process that restores was interrupted, too; it changes all or nothing.
            output.say(
                "interrupted: the server starts again; `homeport app list` shows whether it has the backup's apps"
            )
            raise KeyboardInterrupt from None
        finally:
            async with server.background(settings):
                pass


@contextlib.contextmanager
def _interrupts_noted() -> Iterator[list[int]]:
    """Let Ctrl-C end nothing inside the block, where no server runs; yields the list of those that came."""
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: came.append(number))
    try:
        yield came
    finally:
        signal.signal(signal.SIGINT, before)


async def _status(settings: Settings) -> "Status | None":
    """Return the status of the home's server; None if none runs."""
    from homeport.client import ServerSilent

    async with server.running(settings) as client:
        try:
            return await client.server.status()
        except ServerSilent:
            raise
        except ServerUnreachable:
            return None


def _here(settings: Settings) -> Settings:
    if settings.server:
        raise BadRequest(
            "a backup is made and restored on the machine of the server",
            hint="log in there, and run it without HOMEPORT_SERVER",
        )
    return settings


def _say_volumes(summary: dict[str, Any], settings: Settings, what: str) -> None:
    left_out = [name for name in summary["volumes"] if name not in summary["with_files"]]
    if names := ", ".join(f"`{name}`" for name in left_out):
        output.warn(
            f"the files of the volumes {names} are not in the backup: they are in {settings.volumes_dir}; {what}"
        )


def _contents(summary: dict[str, Any]) -> str:
    def some(number: int, noun: str) -> str:
        return f"{number} {noun}{'' if number == 1 else 's'}"

    return f"{some(summary['apps'], 'app')} and {some(summary['secrets'], 'secret')}"
