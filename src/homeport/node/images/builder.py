"""Carries out one step of an image: runs its commands in the layer's directory.

venv/   the virtual environment with the packages
root/   files that steps copied or made; a container finds them in its working directory
build/  files for the step itself, deleted after it
"""

import asyncio
import contextlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from homeport.contract.errors import ImageError
from homeport.contract.image import HOME, place
from homeport.node.images import command, layers, uv
from homeport.node.images.command import Done
from homeport.node.images.hidden import Hider
from homeport.node.images.installers import POETRY, Installing, Syncing
from homeport.node.images.layers import Layer
from homeport.node.images.uv import Python
from homeport.node.launch import INHERITED

NOISE = "Using Python "  # uv prints the layer's path, which does not help users
MAX_COPY_BYTES = 16 * 1024**2  # larger files are linked into a source tree, not copied
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
        source: Path,
        secrets: Mapping[str, str],
        say: Say,
    ) -> None:
        self._layer = layer
        self._step = layer.step
        self._args = layer.step.args
        self._python = python
        self._source = source
        self._secrets = secrets
        self._hider = Hider(secrets.values())
        self._say = say
        self._venv, self._root, self._build = (directory / n for n in ("venv", "root", "build"))

    async def run(self) -> None:
        """Carry out the step. After an `ImageError` the directory is useless."""
        self._root.mkdir(exist_ok=True)
        self._build.mkdir()
        name = self._step.name
        if name in layers.COPIES:
            await asyncio.to_thread(self._copy)
        else:
            await getattr(self, f"_{name}", self._packages)()
        await asyncio.to_thread(shutil.rmtree, self._build)

    async def _debian_slim(self) -> None:
        self._told(f"Python {self._python.version}")
        words = ("venv", "--quiet", "--relocatable", "--no-project", "--python", self._python.path)
        await self._uv(*words, str(self._venv))

    # packages

    async def _packages(self) -> None:
        installing = Installing(self._step, self._build, self._build, self._interpreter)
        for words in installing.commands():
            await self._uv(*words)

    async def _uv_sync(self) -> None:
        syncing = Syncing(self._step, self._build, self._build)
        syncing.written()
        words = ("--inexact", "--no-install-workspace", *syncing.sync())
        extra = {"UV_PROJECT_ENVIRONMENT": str(self._venv)}
        await self._uv("sync", "--python", self._interpreter, *words, extra=extra)

    async def _poetry_install_from_file(self) -> None:
        syncing = Syncing(self._step, self._build, self._build)
        syncing.written()
        await self._uv(*syncing.poetry(), extra={**POETRY, "VIRTUAL_ENV": str(self._venv)})

    async def _uv(self, *words: str, extra: Mapping[str, str] | None = None) -> None:
        seen = {
            **self._layer.environ,
            **self._secrets,
            **self._args.get("env", {}),
            **(extra or {}),
        }
        done = await uv.run(*words, say=self._told, extra=seen)
        if done.code:
            raise self._failed(uv.in_one_line(done.lines), done)

    # the user's own code

    async def _run_commands(self) -> None:
        commands = self._args["commands"]
        if any("pip" in text for text in commands) and not (self._venv / "bin" / "pip").exists():
            # Without it, the shell would find the pip of other packages.
            quiet = ("pip", "install", "--quiet", "--python", self._interpreter, "pip")
            await self._uv(*quiet)
        for text in commands:
            self._told(f"$ {text}")
            done = await self._command([*self._layer.shell, text])
            if done.code:
                raise self._failed(f"`{text}` ended with exit code {done.code}", done)

    async def _run_function(self) -> None:
        told = {
            "source": str(self._source),
            "cwd": str(self._cwd()),
            **{k: self._args.get(k) for k in ("module", "qualname", "args", "kwargs")},
        }
        call = self._build / "call.json"
        call.write_text(json.dumps(told))
        # A folder with only `homeport/` in it, so that the user's code does not see homeport's own packages.
        lib = self._build / "lib"
        lib.mkdir()
        (lib / "homeport").symlink_to(Path(__file__).parents[2])
        words = [self._interpreter, "-u", "-m", "homeport.runner.build", str(call)]
        timeout_s = float(self._args.get("timeout") or 3600)
        try:
            async with asyncio.timeout(timeout_s):
                done = await self._command(words, cwd=lib)
        except TimeoutError:
            raise self._failed(f"`{told['qualname']}` took longer than {timeout_s:g} s") from None
        if done.code:
            last = next((line for line in reversed(done.lines) if line.strip()), "")
            what = last or f"it ended with exit code {done.code}"
            raise self._failed(f"`{told['qualname']}`: {what}", done)

    async def _command(self, argv: list[str], *, cwd: Path | None = None) -> Done:
        outer = os.environ
        ours = str(Path(sys.executable).parent)
        path = [p for p in outer.get("PATH", os.defpath).split(os.pathsep) if p != ours]
        environ = {
            **{k: v for k, v in outer.items() if k in INHERITED or k.startswith(("UV_", "PIP_"))},
            "PATH": os.pathsep.join([str(self._venv / "bin"), *path]),
            "VIRTUAL_ENV": str(self._venv),
            "UV_PYTHON": self._interpreter,  # for `uv pip install --system`, which is meant for here
            "TMPDIR": str(self._build),
            "PYTHONUNBUFFERED": "1",
            **self._layer.environ,
            **self._secrets,
            **self._args.get("env", {}),
            "MODAL_IS_REMOTE": "1",
            "HOMEPORT_IS_REMOTE": "1",
        }
        return await command.run(argv, environ=environ, cwd=cwd or self._cwd(), say=self._told)

    def _cwd(self) -> Path:
        workdir = Path(place(self._layer.workdir or HOME, str(self._root)))
        if workdir.is_relative_to(self._root):
            workdir.mkdir(parents=True, exist_ok=True)
        return workdir if workdir.is_dir() else self._root

    # local files

    def _copy(self) -> None:
        given = self._source.with_name(f"{self._source.name}.build")
        for name, sha256 in self._args.get("files", {}).items():
            target = self._root / name
            if not target.resolve().is_relative_to(self._root.resolve()):
                raise self._failed(f"`{name}` lies outside the app's directory")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)  # it may be a link to the layer below's
            # Beside the tree, if the image would have a root file system were containers isolated.
            local = given / sha256
            shutil.copy2(local if local.exists() else self._source / name, target)

    # talk

    @property
    def _interpreter(self) -> str:
        return str(self._venv / "bin" / "python")

    def _told(self, line: str) -> None:
        if not line.startswith(NOISE):
            self._say(f"{self._step.name}: {self._hider.hide(line)}")

    def _failed(self, what: str, done: Done | None = None) -> ImageError:
        said = [line for line in done.lines if not line.startswith(NOISE)] if done else []
        # Hide secrets in all lines, because the first of the last lines may be the rest of a secret.
        told = self._hider.hide_all(said)[-TOLD_LINES:]
        return ImageError(
            "\n".join(self._hider.hide_all(f"`{self._step.name}` failed: {what}".split("\n"))),
            where=self._step.where,
            traceback="\n".join(told).strip("\n"),
        )


def clone(parent: Path, fresh: Path, *, linked: bool) -> None:
    """Copy the layer below as the start of a new layer: with links to its files, or with copies."""
    for name in ("venv", "root"):
        if (parent / name).is_dir():
            shutil.copytree(
                parent / name,
                fresh / name,
                symlinks=True,
                copy_function=_link if linked else shutil.copy2,
            )


def lay_into(root: Path, tree: Path) -> None:
    """Copy the steps' files in `root` into a source tree; never replace a file.

    Files are copied, so that a container cannot change another one's; large files (model weights) are linked.
    """
    for directory, folders, files in os.walk(root):
        place = tree / Path(directory).relative_to(root)
        with contextlib.suppress(FileExistsError):
            place.mkdir(exist_ok=True)
        if not place.is_dir():
            continue
        linked = [name for name in folders if (Path(directory) / name).is_symlink()]
        for name in (*files, *linked):
            old, new = Path(directory) / name, place / name
            if os.path.lexists(new):
                continue
            if old.lstat().st_size > MAX_COPY_BYTES:
                _link(old, new)
            else:
                shutil.copy2(old, new, follow_symlinks=False)


def _link(old: Any, new: Any) -> Any:
    try:
        os.link(old, new, follow_symlinks=False)
    except FileExistsError:
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
