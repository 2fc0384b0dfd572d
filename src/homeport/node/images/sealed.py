"""A step of an environment of this machine's Python, carried out by uv in a cell.

A package may run code while it is installed: the build of a source distribution, or a `.pth` file when uv asks the
environment's Python. In the cell that code sees this machine's /usr and the environment, and nothing more of this
machine; its changes of the environment are taken afterwards, as data (`taken.py`).

    step/1/over0/files    the step's changes of the environment
    step/copy             without overlayfs: a copy of the environment, which the step changes
"""

import asyncio
import dataclasses
import os
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from homeport.cell import host, identity
from homeport.cell.description import Bind, Cell
from homeport.contract import codec
from homeport.contract.dataclass import dataclass
from homeport.contract.errors import ImageError
from homeport.contract.image import HOME, PATH
from homeport.node.images import store, taken
from homeport.node.images.bounds import Bounds
from homeport.node.images.command import Done
from homeport.node.images.equipment import equipment
from homeport.node.images.owned import hands, within
from homeport.node.images.store import Say
from homeport.node.images.uv import Python
from homeport.node.images.wheels import PLACE, Wheels


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """How the steps of environments are sealed off."""

    wheels: Wheels
    bounds: Bounds
    overlay: bool  # False: this machine does not allow overlayfs in a cell

    async def run(
        self,
        words: Sequence[str],
        directory: Path,
        python: Python,
        *,
        variables: Mapping[str, str],
        say: Say,
    ) -> Done:
        """Run `uv …` for the layer in `directory`; `variables` are the step's."""
        step, venv = directory / "step", directory / "venv"
        await asyncio.to_thread(hands.mkdir, step)
        try:
            order = await self._order(words, directory, python, variables)
            result = await hands.ask(order, say, bounds=self.bounds)
            if result.stopped:
                return result
            if result.code == within.FAILED:
                last = result.lines[-1] if result.lines else ""
                raise ImageError(f"the step's cell cannot be made: {last}")
            if not result.code and self.overlay:
                changes = step / within.STORAGE / f"{within.OVER}0" / "files"
                await asyncio.to_thread(taken.take, changes, venv)
            elif not result.code:
                await asyncio.to_thread(taken.take, step / "copy", venv, whole=True)
        finally:
            await asyncio.to_thread(store.discard, step)
        return result

    async def _order(
        self, words: Sequence[str], directory: Path, python: Python, variables: Mapping[str, str]
    ) -> dict[str, Any]:
        step, venv, build = (directory / name for name in ("step", "venv", "build"))
        uv, over = equipment(), [str(venv), str(build), PLACE]  # `uv sync` writes into the project
        owned = os.geteuid() == 0
        if self.overlay:
            shared = [Bind(str(path), owned=owned) for path in (venv, build)]
            binds = [*uv.binds, *shared, await self.wheels.bind()]
        else:
            binds = [*uv.binds]
            for path, name in ((venv, "copy"), (build, "build")):
                order = {"do": "tree", "source": str(path), "place": name, "into": str(step)}
                await hands.counts(order)
                binds.append(Bind(str(step / name), str(path), writable=True))
            await asyncio.to_thread(hands.mkdir, step / "cache")
            binds.append(Bind(str(step / "cache"), PLACE, writable=True))
        return {
            "do": "run",
            "cell": codec.encode(await asyncio.to_thread(self._cell, python, venv, step, binds)),
            "commands": [["", [uv.program, *words]]],
            "cwd": "/",
            "environ": {
                "HOME": HOME,
                "PATH": PATH,
                **uv.environ,
                **variables,
                "UV_CACHE_DIR": PLACE,
            },
            "over": over if self.overlay else [],
        }

    def _cell(self, python: Python, venv: Path, step: Path, binds: Sequence[Bind]) -> Cell:
        started = [python.path, str(venv / "bin" / "python")]
        paths = [path for interpreter in started for path in host.interpreter(interpreter)]
        below = [path for path in paths if not path.startswith(str(venv))]
        described = host.cell([*below, *library(python.path)], binds=binds)
        return dataclasses.replace(
            described, storage=str(step), ids=identity.own(), overlay=self.overlay
        )


@cache
def library(python: str) -> tuple[str, ...]:
    """Return the directories of a Python's standard library. No package's code runs: `-S`. Blocks."""
    code = "import sys; print(*sys.path, sep='\\n')"
    words = [os.path.realpath(python), "-I", "-S", "-c", code]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    return tuple(path for path in result.stdout.splitlines() if Path(path).is_dir())
