"""Directories that are built once and kept, each with a record that is written last.

    <home>/environments/<key>/               an image or a layer
    <home>/environments/<key>/record.json    a directory without a record is incomplete, and is deleted
    <home>/build-logs/<key>.log              the last lines of output of its build, without secrets

A caller that needs a directory that is being built waits for that build; a build without callers is ended.
"""

import asyncio
import contextlib
import json
import os
import shutil
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from homeport import durable, removing
from homeport.contract.dataclass import dataclass
from homeport.contract.errors import StorageError
from homeport.contract.output import PASSING, STEP
from homeport.node.images.owned import hands

RECORD = "record.json"
LOG_LINES, LOG_LINE = 2_000, 1_000  # of a build's log, and characters of a line
#: Parts of a directory whose files belong to the ids of cells.
OWNED = ("files", "step", "trial")

Say = Callable[[str], None]
Record = dict[str, Any]


@dataclass(slots=True)
class _Job:
    """A running build, and the callers that listen to it."""

    listeners: list[Say] = field(default_factory=list)
    task: asyncio.Task[None] | None = None
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=LOG_LINES))

    def say(self, text: str) -> None:
        if not text.startswith((PASSING, STEP)):
            self.lines.append(text[:LOG_LINE])
        for listener in list(self.listeners):
            listener(text)


class Store:
    """All directories of one home."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._jobs: dict[str, _Job] = {}  # by directory name
        self._records_lock = asyncio.Lock()
        self._needed: list[str] = []  # directory names that a build is about to use

    def has(self, name: str) -> bool:
        """Return whether the directory was built completely."""
        return (self.root / name / RECORD).exists()

    def sweep(self) -> None:
        """Remove the directories of interrupted builds."""
        for directory in self.root.iterdir() if self.root.is_dir() else ():
            if not (directory / RECORD).exists():
                remove(directory)

    @contextlib.asynccontextmanager
    async def needed(self, names: list[str]) -> AsyncIterator[None]:
        """Protect these directories from `prune` within the block; more may be added to the list."""
        async with self._records_lock:  # not while a prune decides what is not needed
            self._needed += names
        try:
            yield
        finally:
            for name in names:
                self._needed.remove(name)

    async def need(self, names: list[str], name: str) -> None:
        """Protect one more directory."""
        async with self._records_lock:
            names.append(name)
            self._needed.append(name)

    async def once(self, name: str, build: Callable[[Say], Awaitable[None]], say: Say) -> None:
        """Build the directory, or wait for a build of it that runs already."""
        while not self.has(name):
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
        directory = self.root / name
        try:
            await asyncio.to_thread(remove, directory)
            directory.mkdir(parents=True, mode=0o700)
            await build(job.say)
            await asyncio.to_thread(self._keep_log, name, list(job.lines))
        except OSError as error:
            raise StorageError(
                f"{directory} cannot be written: {error.strerror}",
                hint="`df -h` shows which disk is full, `homeport image prune` frees what no app needs",
            ) from None
        finally:
            if not (directory / RECORD).exists():
                await asyncio.to_thread(remove, directory)
            del self._jobs[name]

    def _keep_log(self, name: str, lines: Collection[str]) -> None:
        with contextlib.suppress(OSError):  # the build is worth more than its log
            self._log(name).parent.mkdir(mode=0o700, exist_ok=True)
            self._log(name).write_text("".join(f"{line}\n" for line in lines))

    def _log(self, name: str) -> Path:
        return self.root.parent / "build-logs" / f"{name}.log"

    # what is there

    def log(self, name: str) -> str | None:
        """Return the output of a directory's build; None if there is no such directory. Blocks."""
        if name not in {directory.name for directory, _ in self.records()}:
            return None
        with contextlib.suppress(OSError):
            return self._log(name).read_text(errors="replace")
        return ""

    def records(self) -> Iterator[tuple[Path, Record]]:
        """Yield each directory that a step has made, with its record."""
        for directory in self.root.iterdir() if self.root.is_dir() else ():
            record = read(directory)
            if "steps" in record:
                yield directory, record

    def users(self) -> Counter[str]:
        """Return how many images use each directory."""
        records = {directory.name: record for directory, record in self.records()}
        counted: Counter[str] = Counter()
        for name, record in records.items():
            below = name
            while below in records:
                counted[below] += len(record["images"])
                below = records[below]["parent"]
        return counted

    async def used(self, directory: Path, image: str) -> None:
        """Record that an image uses the directory. An image has one directory, its newest. The file's date is that
        of the last use.
        """
        async with self._records_lock:
            await asyncio.to_thread(self._used, directory, image)

    async def note(self, directory: Path, **fields: Any) -> None:
        """Add to a finished directory's record; its date stays."""
        async with self._records_lock:
            await asyncio.to_thread(_note, directory, fields)

    def of(self, image: str) -> tuple[Path, Record] | None:
        """Return the directory that an image uses, with its record; None for an image that was not built."""
        for directory, record in self.records():
            if image in record["images"]:
                return directory, record
        return None

    async def prune(self, keep: Collection[str]) -> list[tuple[Path, Record, float]]:
        """Remove the directories that none of these images needs; return their records, and when each was used last."""
        async with self._records_lock:
            return await asyncio.to_thread(self._prune, keep)

    def _used(self, directory: Path, image: str) -> None:
        for directory_of_record, record in self.records():
            holds = image in record["images"]
            if holds != (directory_of_record == directory):
                changed = {*record["images"]} ^ {image}
                write(directory_of_record, {**record, "images": sorted(changed)}, keep_date=holds)
        os.utime(directory / RECORD)

    def _prune(self, keep: Collection[str]) -> list[tuple[Path, Record, float]]:
        records = {directory.name: record for directory, record in self.records()}
        needed = {*self._needed, *self._jobs}
        needed |= {name for name, record in records.items() if {*record["images"]} & {*keep}}
        for name in list(needed):
            while (name := records.get(name, {}).get("parent", "")) and name not in needed:
                needed.add(name)
        for name in list(needed & {*records}):
            needed |= {records[name].get("runner", ""), records[name].get("compiled", "")}
            needed |= {*records[name].get("lowers", ())}
        removed = []
        for directory in list(self.root.iterdir()) if self.root.is_dir() else ():
            if directory.name in needed:
                continue
            if record := records.get(directory.name):
                removed.append((directory, record, used_at(directory)))
            # First the record: a directory without it counts as incomplete, if this is interrupted.
            (directory / RECORD).unlink(missing_ok=True)
            self._log(directory.name).unlink(missing_ok=True)
            remove(directory)
        return removed


def remove(directory: Path) -> None:
    """Delete the whole directory, also files of other users' ids. Blocks."""
    for name in OWNED:
        if (directory / name).is_dir():
            hands.empty(directory / name)
    removing.discard(str(directory))


def discard(directory: Path) -> None:
    """Delete a directory with files of the ids that cells have. Blocks."""
    if os.geteuid() == 0:  # root may delete the files of all ids
        with contextlib.suppress(RecursionError):
            shutil.rmtree(directory, ignore_errors=True)
    else:
        hands.empty(directory)
    removing.discard(str(directory))


def used_at(directory: Path) -> float:
    """Return when the directory was last used, in seconds since the epoch."""
    return (directory / RECORD).stat().st_mtime


def read(directory: Path) -> Record:
    """Return a directory's record; empty if it has none."""
    with contextlib.suppress(OSError, ValueError):
        record = json.loads((directory / RECORD).read_text())
        if isinstance(record, dict):
            return record
    return {}


def write(directory: Path, record: Mapping[str, Any], *, keep_date: bool = False) -> None:
    """Write a record as a whole: a reader never sees half of one.

    One writer at a time: outside this module, only the build that makes the directory. Others call `Store.note`.
    """
    path, fresh = directory / RECORD, directory / "record.new"
    before = path.stat() if keep_date else None
    fresh.write_text(json.dumps(record))
    durable.sync(fresh)
    if before is not None:
        os.utime(fresh, ns=(before.st_atime_ns, before.st_mtime_ns))
    fresh.replace(path)


def _note(directory: Path, fields: Mapping[str, Any]) -> None:
    record = read(directory)
    if record and (changed := {**record, **fields}) != record:
        write(directory, changed, keep_date=True)


async def complete(directory: Path, record: Mapping[str, Any]) -> None:
    """Write a directory's first record, which marks it as complete; its files are on the disk before.

    Else a power cut could leave the record and take the files, and the image would stay broken.
    """
    await asyncio.to_thread(durable.sync_all, directory)
    await asyncio.to_thread(write, directory, record)


async def finish(directory: Path, **record: Any) -> None:
    """Complete the directory of an image's step."""
    await complete(directory, {**record, "created_at": time.time(), "images": []})
