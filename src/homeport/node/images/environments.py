"""Images made real: layer upon layer, each built once and kept.

    <home>/environments/<key>/               a layer (node/images/builder.py says what is in it)
    <home>/environments/<key>/record.json    written last: a directory without one is half an environment
    <home>/environments/runner-<version>-…/  what the runner needs, where it is not the user's package

A layer is built where it stays, so that absolute paths in it hold.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from homeport.contract.errors import ImageError, StorageError
from homeport.contract.image import Environment, Image
from homeport.node.images import builder, debian, layers, uv
from homeport.node.images.builder import Builder, Say
from homeport.node.images.layers import Layer
from homeport.node.images.uv import Python

RECORD = "record.json"
OURS_FROM = (3, 11)
#: What the runner imports; their bounds are those of homeport itself, where it could run too.
RUNNERS = ("uvicorn", "httptools", "uvloop", "websockets", "cheroot", "a2wsgi")


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """An image that containers can start from."""

    key: str
    python: str  # the interpreter
    directory: Path  # what is known of the environment is kept here
    runner_path: str = ""  # comes last on `sys.path`, where ours are not the user's packages


@dataclass(slots=True)
class _Job:
    """A build that is under way, and who listens."""

    listeners: list[Say] = field(default_factory=list)
    task: asyncio.Task[None] | None = None

    def say(self, text: str) -> None:
        for listener in list(self.listeners):
            listener(text)


class Environments:
    """Every environment of this machine."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._made: dict[str, Made] = {}  # by the image's key
        self._jobs: dict[str, _Job] = {}  # by directory name
        self._records_lock = asyncio.Lock()
        self._pythons: dict[str, tuple[int, Python]] = {}  # as asked for -> its date, itself
        self._needed: list[str] = []  # directory names that a `make` is about to use

    def sweep(self) -> None:
        """Remove what an interrupted build has left."""
        for directory in self._root.iterdir() if self._root.is_dir() else ():
            if not (directory / RECORD).exists():
                shutil.rmtree(directory, ignore_errors=True)

    async def make(self, image: Image, source: str, environ: Mapping[str, str], say: Say) -> None:
        """Build what is not there yet; raises `ImageError`."""
        layers.check(image)
        if not image.has_environment:
            return
        await debian.check(image)
        base = next((step for step in image.steps if step.name == layers.BASE.name), layers.BASE)
        python = await self._python(base.args.get("python_version"), base.where)
        wanted = layers.of(image, python.version, Path(source).name)
        runner = self._root / _runner_name(python)
        needed = [*(layer.key for layer in wanted), runner.name]
        async with self._records_lock:  # not while a prune decides what nobody needs
            self._needed += needed
        try:
            for layer in wanted:
                await self._layer(layer, python, Path(source), environ, say)
            await self._once(
                runner.name, lambda tell: self._bring_runner(runner, python, tell), say
            )
            last = self._root / wanted[-1].key
            async with self._records_lock:
                await asyncio.to_thread(self._used, last, image.key)
            await asyncio.to_thread(builder.lay_into, last / "root", Path(source))
        finally:
            for name in needed:
                self._needed.remove(name)
        self._made[image.key] = _made(last, runner)

    def all(self) -> Collection[Environment]:
        """Those that were built, the newest first."""
        found = [_environment(directory, record) for directory, record in self._records()]
        return sorted(found, key=lambda environment: -environment.created_at)

    async def prune(self, keep: Collection[Image]) -> Collection[Environment]:
        """Remove those that none of these images needs."""
        async with self._records_lock:
            return await asyncio.to_thread(self._prune, {image.key for image in keep})

    def of(self, image: Image) -> Made:
        """Where an image's containers start from."""
        if not image.has_environment:
            return Made(key="default", python=sys.executable, directory=self._root / "default")
        made = self._made.get(image.key)
        if made is None or not (made.directory / RECORD).exists():
            made = self._made[image.key] = self._found(image)
        return made

    # building

    async def _python(self, wanted: str | None, where: str) -> Python:
        """The interpreter; looked for again only once the one that was found has changed."""
        date, python = self._pythons.get(wanted or "", (0, None))
        if python is None or _date(python.path) != date:
            python = await uv.python(wanted, where)
            self._pythons[wanted or ""] = _date(python.path), python
        return python

    async def _layer(
        self, layer: Layer, python: Python, source: Path, environ: Mapping[str, str], say: Say
    ) -> None:
        async def build(tell: Say) -> None:
            directory = self._root / layer.key
            if layer.parent:
                linked = layer.step.name not in layers.RUNS
                parent = self._root / layer.parent
                await asyncio.to_thread(builder.clone, parent, directory, linked=linked)
            await Builder(layer, directory, python, source=source, secrets=environ, say=tell).run()
            parent_root = self._root / layer.parent if layer.parent else None
            _write(
                directory,
                {
                    "parent": layer.parent,
                    "steps": layer.steps,
                    "python_version": python.version,
                    "size_bytes": await asyncio.to_thread(_size, directory, parent_root),
                    "created_at": time.time(),
                    "runner": _runner_name(python),
                    "images": [],
                },
            )

        try:
            await self._once(layer.key, build, say)
        except ImageError as failure:
            # The build may have been another deploy's: the place is this script's.
            failure.where = layer.step.where
            raise

    async def _once(self, name: str, build: Callable[[Say], Awaitable[None]], say: Say) -> None:
        """Have the directory, by building it or by waiting for whoever builds it already."""
        while not (self._root / name / RECORD).exists():
            job = self._jobs.get(name)
            if job is None:
                job = self._jobs[name] = _Job()
                job.task = asyncio.create_task(self._build(name, job, build))
            assert job.task is not None
            job.listeners.append(say)
            try:
                await asyncio.shield(job.task)
            except asyncio.CancelledError:
                me = asyncio.current_task()
                if not job.task.cancelled() or (me is not None and me.cancelling()):
                    raise
            finally:
                job.listeners.remove(say)
                if not job.listeners and not job.task.done():
                    job.task.cancel()
                    await asyncio.wait([job.task])

    async def _build(self, name: str, job: _Job, build: Callable[[Say], Awaitable[None]]) -> None:
        directory = self._root / name
        try:
            await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
            directory.mkdir(parents=True, mode=0o700)
            await build(job.say)
        except OSError as error:
            raise StorageError(f"{directory} cannot be written: {error.strerror}") from None
        finally:
            if not (directory / RECORD).exists():
                await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
            del self._jobs[name]

    async def _bring_runner(self, directory: Path, python: Python, say: Say) -> None:
        words = ("pip", "install", "--quiet", "--python", python.path, "--target", str(directory))
        done = await uv.run(*words, *_runner_requirements(python), say=say)
        if done.code:
            raise ImageError(
                f"the runner cannot be installed for Python {python.version}: "
                f"{uv.in_one_line(done.lines)}",
                traceback=done.text,
            )
        _write(directory, {"runner_for": python.minor})

    # what is there

    def _records(self) -> Iterator[tuple[Path, dict[str, Any]]]:
        for directory in self._root.iterdir() if self._root.is_dir() else ():
            record = _read(directory)
            if "steps" in record:
                yield directory, record

    def _used(self, directory: Path, image: str) -> None:
        """Its date is when it was used last; an image has one environment, its newest."""
        for other, record in self._records():
            holds = image in record["images"]
            if holds != (other == directory):
                changed = {*record["images"]} ^ {image}
                _write(other, {**record, "images": sorted(changed)}, keep_date=holds)
        os.utime(directory / RECORD)

    def _found(self, image: Image) -> Made:
        """What an earlier server has built."""
        for directory, record in self._records():
            runner = self._root / record["runner"]
            if image.key in record["images"] and (runner / RECORD).exists():
                return _made(directory, runner)
        raise ImageError(
            "the environment of this image is not there any more", hint="deploy the app again"
        )

    def _prune(self, keep: Collection[str]) -> list[Environment]:
        known = {directory.name: record for directory, record in self._records()}
        kept = {*self._needed, *self._jobs}
        kept |= {name for name, record in known.items() if {*record["images"]} & {*keep}}
        for name in list(kept):
            while (name := known.get(name, {}).get("parent", "")) and name not in kept:
                kept.add(name)
        kept |= {known[name]["runner"] for name in kept if name in known}
        gone = []
        for directory in list(self._root.iterdir()) if self._root.is_dir() else ():
            if directory.name in kept:
                continue
            if record := known.get(directory.name):
                gone.append(_environment(directory, record))
            # Without its record it is no environment, should this be cut short.
            (directory / RECORD).unlink(missing_ok=True)
            shutil.rmtree(directory, ignore_errors=True)
        return gone


def _made(directory: Path, runner: Path) -> Made:
    return Made(
        key=directory.name,
        python=str(directory / "venv" / "bin" / "python"),
        directory=directory,
        runner_path=str(runner),
    )


def _environment(directory: Path, record: Mapping[str, Any]) -> Environment:
    return Environment(
        key=directory.name,
        steps=tuple(record["steps"]),
        python_version=record["python_version"],
        size_bytes=record["size_bytes"],
        created_at=record["created_at"],
        used_at=(directory / RECORD).stat().st_mtime,
    )


def _date(path: str) -> int:
    try:
        return Path(path).stat().st_mtime_ns
    except OSError:
        return 0


def _runner_requirements(python: Python) -> list[str]:
    declared = metadata.requires("homeport") or []
    found = sorted(text for text in declared if text.startswith(RUNNERS) and ";" not in text)
    if python.is_older_than(OURS_FROM):  # it needs whichever was the newest for it
        return [re.split(r"[^\w.-]", text)[0] for text in found]
    return found


def _runner_name(python: Python) -> str:
    told = hashlib.sha256("\n".join(_runner_requirements(python)).encode()).hexdigest()
    return f"runner-{python.minor}-{told[:8]}"


def _read(directory: Path) -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        record = json.loads((directory / RECORD).read_text())
        if isinstance(record, dict):
            return record
    return {}


def _write(directory: Path, record: Mapping[str, Any], *, keep_date: bool = False) -> None:
    """All of it or nothing: a reader never sees half a record."""
    path, fresh = directory / RECORD, directory / "record.new"
    before = path.stat() if keep_date else None
    fresh.write_text(json.dumps(record))
    if before is not None:
        os.utime(fresh, ns=(before.st_atime_ns, before.st_mtime_ns))
    fresh.replace(path)


def _size(directory: Path, parent: Path | None) -> int:
    """Bytes that are not the layer below's as well."""
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
