"""The directory of one operation: lays files into it, and runs commands in a cell on the layers below.

    files/   the layer: an upper directory of overlayfs, its files belong to the ids that cells have
    step/    the directory to which the operation's cell writes, until it has ended
    build/   files that the operation itself needs, deleted when it is done

All commands run in a cell. It never sees this machine's files, except those that are named. `work` has the operations.
"""

import asyncio
import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from homeport.cell import identity
from homeport.cell.description import Bind, Cell
from homeport.contract import codec, dockerfile
from homeport.contract.dataclass import dataclass
from homeport.contract.errors import ImageError, StorageError
from homeport.contract.image import HOME
from homeport.contract.output import PASSING
from homeport.hidden import Hider
from homeport.node.images import command, store
from homeport.node.images.bounds import Bounds
from homeport.node.images.command import Done
from homeport.node.images.equipment import proxies
from homeport.node.images.owned import hands, within
from homeport.node.images.rooted import (
    given,
    merged,
    registry,
)
from homeport.node.images.rooted.given import Given
from homeport.node.images.rooted.operations import Config, Op
from homeport.node.images.rooted.python import Inside
from homeport.node.images.store import Say, Store
from homeport.node.images.supplied import Supplied
from homeport.node.images.wheels import Wheels

TOLD_LINES = 30  # of a failed command's output
ALMOST_FULL_BYTES = 16 * 1024**2
#: Credentials for the registry, which no command of the image needs.
KEPT_BACK = (registry.USER, registry.PASSWORD, registry.SERVICE_ACCOUNT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Below:
    """The layers below an operation."""

    lowers: tuple[str, ...] = ()  # names of directories in the store
    config: Config = dataclasses.field(default_factory=Config)
    python: Inside | None = None  # None if it is not known yet


class Site:
    """One operation, its directory, and the means to carry it out."""

    def __init__(
        self,
        op: Op,
        below: Below,
        directory: Path,
        *,
        store: Store,
        wheels: Wheels,
        bounds: Bounds,
        others: Mapping[str, tuple[str, ...]] | None = None,
        source: Path,
        supplied: Supplied,
        say: Say,
    ) -> None:
        self._op = op
        self._args = op.args
        self._below = below
        self._config = below.config
        self._directory = directory
        self._store = store
        self._wheels = wheels
        self._bounds = bounds
        self._source = source
        self._supplied = supplied
        self._secrets = supplied.environ(op.step)
        self._given_files = Given(source)
        self._hider = Hider(supplied.hidden)
        self._say = say
        self._others = others or {}  # the layers of the stages that it takes files from
        self._files, self._step, self._build = (
            directory / name for name in ("files", "step", "build")
        )

    def _target(self) -> str:
        return dockerfile.expand(self._args["target"], self._config.variables)

    def _mode(self) -> int | None:
        try:
            return int(self._args["mode"], 8) & 0o7777 if self._args["mode"] else None
        except ValueError:
            raise ImageError(
                f"`{self._op.title}`: `--chmod` takes digits such as 755", where=self._op.step.where
            ) from None

    async def _archive(
        self, files: Mapping[str, tuple[str | Path, int | None]]
    ) -> tuple[Path, str]:
        """Write files into an archive for the root: place -> the content's hash or file, and the mode."""
        path = self._build / "files.tar"
        local_files = {
            place: (
                self._given_files.local(content, place) if isinstance(content, str) else content,
                mode,
            )
            for place, (content, mode) in files.items()
        }
        await asyncio.to_thread(given.write_archive, path, local_files)
        return path, "/"

    async def _lay(self, archives: Sequence[tuple[Path, str]]) -> None:
        """Lay the files of archives into the image, in a cell: there, links lead where the image's own links lead."""
        self._step.mkdir(mode=0o700)
        order = {
            "do": "lay",
            "cell": codec.encode(cell_of(self._store, self._below.lowers, self._step)),
            "archives": [[str(path), target] for path, target in archives],
            "owner": self._args.get("owner", ""),
        }
        await hands.counts(order)
        await self._keep()

    async def _take(
        self, stage: str, sources: list[str], archive: Path, target: str, *, is_directory: bool
    ) -> None:
        """Pack files of another stage."""
        step = self._build / "other"
        step.mkdir(mode=0o700)
        order = {
            "do": "pack",
            "cell": codec.encode(cell_of(self._store, self._others[stage], step)),
            "sources": sources,
            "target": target,
            "is_directory": is_directory,
            "mode": self._mode() if "mode" in self._args else None,
            "into": str(archive),
        }
        await hands.counts(order)
        await asyncio.to_thread(hands.empty, step)
        step.rmdir()

    async def _is_directory(self, place: str) -> bool:
        layers = [str(self._store.root / name / "files") for name in self._below.lowers]
        return await asyncio.to_thread(merged.is_directory, layers, place)

    async def _keep(self) -> None:
        """Turn the files that the step's cell has written into the layer."""
        files = self._step / within.STORAGE / "root" / "files"
        files.rename(self._files)
        await asyncio.to_thread(store.discard, self._step)

    async def _unpack(self, archive: Path) -> None:
        hands.mkdir(self._files)
        await hands.counts({"do": "unpack", "archive": str(archive), "into": str(self._files)})

    # in a cell

    async def _in_cell(
        self,
        commands: Sequence[tuple[str, list[str]]],
        *,
        binds: Sequence[Bind] = (),
        environ: Mapping[str, str] | None = None,
        cwd: str = "",
        failed: Any = None,
        over: Sequence[str] = (),
    ) -> None:
        self._step.mkdir(mode=0o700)
        titles = [title for title, _ in commands]
        started: list[str] = []

        def report(line: str) -> None:
            if len(started) < len(titles) and _announces(line, titles[len(started)]):
                started.append(titles[len(started)])
            self._report(line)

        order = {
            "do": "run",
            "cell": codec.encode(cell_of(self._store, self._below.lowers, self._step, binds)),
            "commands": [list(command_of_step) for command_of_step in commands],
            "cwd": cwd
            or self._config.workdir
            or (HOME if self._op.step.name != "from_dockerfile" else "/"),
            "environ": {**self._environ(), **(environ or {})},
            "over": list(over),
        }
        result = await hands.ask(order, report, bounds=self._bounds)
        if result.stopped:
            raise self._failed(result.stopped, result)
        if result.code == within.FAILED:
            raise ImageError(
                f"the step's cell cannot be made: {result.lines[-1] if result.lines else ''}"
            )
        if result.code:
            room = os.statvfs(self._directory)
            if room.f_bavail * room.f_frsize < ALMOST_FULL_BYTES:
                raise StorageError("the disk is full", hint="`df -h` shows which one")
            raise self._failed(_why(result, started, self._op, failed), result)
        await self._keep()

    def _environ(self) -> dict[str, str]:
        secrets = {k: v for k, v in self._secrets.items() if k not in KEPT_BACK}
        return {
            "HOME": HOME,
            **proxies(),
            "DEBIAN_FRONTEND": "noninteractive",
            "PYTHONUNBUFFERED": "1",
            **self._config.arguments,
            **self._config.environ,
            **secrets,
            **self._args.get("env", {}),
            "MODAL_IS_REMOTE": "1",
            "HOMEPORT_IS_REMOTE": "1",
        }

    def _python_there(self) -> Inside:
        assert self._below.python is not None
        return self._below.python

    # talk

    def _report(self, line: str) -> None:
        mark = PASSING if line.startswith(PASSING) else ""
        self._say(f"{mark}{self._op.step.name}: {self._hider.hide(line.removeprefix(mark))}")

    def _failed(self, reason: str, result: Done | None = None) -> ImageError:
        # Hide secrets in all lines: the first of the last lines may contain the end of a secret.
        last_lines = self._hider.hide_all(result.lines if result else [])[-TOLD_LINES:]
        text = f"`{self._op.step.name}` failed: {reason}"
        return ImageError(
            "\n".join(self._hider.hide_all(text.split("\n"))),
            where=self._op.step.where,
            traceback="\n".join(last_lines).strip("\n"),
        )


def cell_of(store: Store, lowers: Sequence[str], storage: Path, binds: Sequence[Bind] = ()) -> Cell:
    """Return a cell on these layers, which writes into `storage`."""
    return Cell(
        layers=tuple(str(store.root / name / "files") for name in lowers),
        storage=str(storage),
        binds=tuple(binds),
        ids=identity.own(),
    )


def _announces(line: str, title: str) -> bool:
    """Return whether a line of the output is the first one of a command's title, as the command's start prints it.

    >>> _announces("no end of line$ if true", "$ if true \\nthen ls; fi")
    True
    """
    # What the command before it printed may have no end of line.
    return line.endswith(command.shown(title.partition("\n")[0]))


def _why(result: Done, started: list[str], op: Op, failed: Any) -> str:
    if failed is not None:
        return str(failed(result.lines))
    if op.kind == "function":
        last = next((line for line in reversed(result.lines) if line.strip()), "")
        return f"`{op.args['qualname']}`: {last or f'it ended with exit code {result.code}'}"
    if op.kind == "git" and result.code == within.NOT_FOUND:
        return "the image has no `git`, and no `apt-get` to install it"
    if op.kind in ("apt", "git"):
        errors = [line[3:] for line in result.lines if line.startswith("E: ")]
        if result.code == within.NOT_FOUND:
            return "the image has no `apt-get`: it is not made from Debian or Ubuntu"
        return errors[0] if errors else f"apt-get ended with exit code {result.code}"
    title = started[-1].removeprefix("$ ") if started else op.title
    return f"`{title}` ended with exit code {result.code}"
