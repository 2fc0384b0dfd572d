"""Carries out one step of an environment: has uv work in the layer's directory.

venv/   the virtual environment with the packages
build/  files for the step itself, deleted after it
step/   what its cell writes

A step that runs code of the user needs a root file system (`rooted/`). A package may run code too, so uv works in a
cell, if this machine has cells (`sealed.py`).
"""

import asyncio
import contextlib
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from homeport.contract.errors import ImageError
from homeport.hidden import Hider
from homeport.node.images import uv
from homeport.node.images.command import Done
from homeport.node.images.installers import POETRY, Installing, Syncing
from homeport.node.images.layers import Layer
from homeport.node.images.sealed import Sealed
from homeport.node.images.supplied import Supplied
from homeport.node.images.uv import Python

NOISE = "Using Python "  # uv prints the layer's path, which does not help users
TOLD_LINES = 30  # how many lines of a failed command's output an error has

Say = Callable[[str], None]


class Builder:
    """Carries out one layer's step."""

    def __init__(
        self,
        layer: Layer,
        directory: Path,
        python: Python,
        *,
        supplied: Supplied,
        say: Say,
        sealed: Sealed | None,
    ) -> None:
        """`sealed` is None on a machine without cells."""
        self._layer = layer
        self._step = layer.step
        self._args = layer.step.args
        self._python = python
        self._secrets = supplied.environ(layer.step)
        self._hider = Hider(supplied.hidden)
        self._say = say
        self._sealed = sealed
        self._directory = directory
        self._venv, self._build = directory / "venv", directory / "build"

    async def run(self) -> None:
        """Carry out the step. After an `ImageError` the directory is useless."""
        self._build.mkdir()
        await getattr(self, f"_{self._step.name}", self._packages)()
        await asyncio.to_thread(shutil.rmtree, self._build)

    async def _debian_slim(self) -> None:
        self._report(f"Python {self._python.version}")
        words = ("venv", "--quiet", "--relocatable", "--no-project", "--python", self._python.path)
        result = await uv.run(*words, str(self._venv), say=self._report)
        if result.code:
            raise self._failed(uv.in_one_line(result.lines), result)

    # packages

    async def _packages(self) -> None:
        if self._sealed is not None:
            trial = self._directory / "trial"
            await self._sealed.wheels.fetch(
                self._step, self._variables(), self._python.version, trial, self._report
            )
        installing = Installing(self._step, self._build, self._build, self._interpreter)
        for words in installing.commands():
            await self._uv(*words)

    async def _uv_sync(self) -> None:
        syncing = Syncing(self._step, self._build, self._build)
        syncing.write()
        words = ("--inexact", "--no-install-workspace", *syncing.sync())
        extra = {"UV_PROJECT_ENVIRONMENT": str(self._venv)}
        await self._uv("sync", "--python", self._interpreter, *words, extra=extra)

    async def _poetry_install_from_file(self) -> None:
        syncing = Syncing(self._step, self._build, self._build)
        syncing.write()
        await self._uv(*syncing.poetry(), extra={**POETRY, "VIRTUAL_ENV": str(self._venv)})

    async def _uv(self, *words: str, extra: Mapping[str, str] | None = None) -> None:
        variables = {**self._variables(), **(extra or {})}
        if self._sealed is None:
            result = await uv.run(*words, say=self._report, extra=variables)
        else:
            result = await self._sealed.run(
                words, self._directory, self._python, variables=variables, say=self._report
            )
            if result.stopped:
                raise self._failed(result.stopped, result)
        if result.code:
            raise self._failed(uv.in_one_line(result.lines), result)

    def _variables(self) -> dict[str, str]:
        """Return the variables that the step sees."""
        return {**self._layer.environ, **self._secrets, **self._args.get("env", {})}

    # talk

    @property
    def _interpreter(self) -> str:
        return str(self._venv / "bin" / "python")

    def _report(self, line: str) -> None:
        if not line.startswith(NOISE):
            self._say(f"{self._step.name}: {self._hider.hide(line)}")

    def _failed(self, reason: str, result: Done | None = None) -> ImageError:
        lines = [line for line in result.lines if not line.startswith(NOISE)] if result else []
        # Hide secrets in all lines, because the first of the last lines may be the rest of a secret.
        last_lines = self._hider.hide_all(lines)[-TOLD_LINES:]
        return ImageError(
            "\n".join(self._hider.hide_all(f"`{self._step.name}` failed: {reason}".split("\n"))),
            where=self._step.where,
            traceback="\n".join(last_lines).strip("\n"),
        )


def clone(parent: Path, fresh: Path) -> None:
    """Begin a layer with links to the files of the one below; uv replaces a file and never writes into it."""
    shutil.copytree(parent / "venv", fresh / "venv", symlinks=True, copy_function=_link)


def _link(old: Any, new: Any) -> Any:
    try:
        os.link(old, new, follow_symlinks=False)
    except FileExistsError:
        raise
    except FileNotFoundError:  # half of a file that is being compiled, which has its name by now
        if "__pycache__" not in str(old):
            raise
    except OSError:  # another file system, or one without links
        shutil.copy2(old, new, follow_symlinks=False)
    return new


def size(directory: Path, parent: Path | None) -> int:
    """Return the bytes of files that the layer below does not have."""
    total = 0
    for folder, _folders, files in os.walk(directory):
        below = parent / Path(folder).relative_to(directory) if parent else None
        for name in files:
            status = (Path(folder) / name).lstat()
            with contextlib.suppress(OSError):
                if below is not None and (below / name).lstat().st_ino == status.st_ino:
                    continue
            total += status.st_size
    return total
