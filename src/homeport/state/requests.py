"""Keeps the last requests of each environment, in files that are never larger together than a cap.

`requests/<number>.log` in the home has a line for each request that has ended (contract/recorded.py), the oldest first;
other environments than `main` have a folder each. Between them are marks (state/marks.py). A file has at most an eighth of the cap: then another one
begins, and the oldest is deleted. A thread writes the files; they are read in threads too.
"""

import asyncio
import contextlib
import logging
import os
import queue
import shutil
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from homeport.contract import recorded
from homeport.contract.dataclass import dataclass
from homeport.contract.recorded import CONTAINER, ENDED, ENDPOINT, ID, MISSING
from homeport.contract.sizes import MIB
from homeport.state import marks
from homeport.state.marks import Kept, Line
from homeport.state.scope import MAIN, Scope, folder

PARTS = 8  # files of an environment
LEAST_BYTES = 64 * 1024  # of a file
QUEUED = 50  # pieces of lines that wait for a slow disk; further ones are lost
DISK_S = 10.0  # how long a search waits for them
RECENT_BYTES = 2 * MIB  # the last lines, of which an ingress that outlives a server may have some
FIRST = 1_000_001  # so that names sort as numbers

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """The app that an endpoint belongs to."""

    scope: Scope
    app: str
    tag: str


FOLLOWED = 2_000  # requests that wait for a slow follower; further ones are lost for it


#: Its arguments are a line's words, the app and the tag of its endpoint.
Wanted = Callable[[Line, str, str], bool]


class Sees(Protocol):
    """Reads requests as they end."""

    def see(
        self, lines: Sequence[Line], places: dict[str, Place | None], revisions: dict[str, str]
    ) -> None:
        """Take requests in: their lines, whose their endpoints are, and what their containers run; on the event loop."""


class Requests:
    """The requests of all environments."""

    def __init__(self, root: Path, cap_bytes: int) -> None:
        """With a cap of 0 none are kept."""
        self._root = root
        self._part_bytes = max(cap_bytes // PARTS, LEAST_BYTES) if cap_bytes else 0
        self._files: dict[Scope, _File] = {}
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lost = 0
        self._failing = False
        self._counting = threading.Lock()
        self._followers: set[Sees] = set()
        self.added: Callable[[], None] = lambda: None  # called when requests have ended
        #: Returns the machine of a container, as `Kept.node`; called on the event loop.
        self.node_of: Callable[[str], str] = lambda _container: ""
        if cap_bytes:
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._thread = threading.Thread(target=self._run, name="requests", daemon=True)
        self._thread.start()

    def add(
        self,
        lines: Sequence[Line],
        place: Callable[[str], Place | None],
        revision: Callable[[str], str],
    ) -> None:
        """Keep the requests of these lines; a slow or full disk only loses them.

        `place` returns the app and the function of an endpoint, and `revision` the revision of a container; both are
        called at once.
        """
        self.added()
        is_full = self._queue.qsize() > QUEUED
        if is_full:
            self._lose(len(lines))
        is_kept = bool(self._part_bytes) and not is_full
        if not (is_kept or self._followers):
            return
        places = {endpoint: place(endpoint) for endpoint in {line[ENDPOINT] for line in lines}}
        revisions = {name: revision(name) for name in {line[CONTAINER] for line in lines}}
        if is_kept:
            nodes = {name: node for name in revisions if (node := self.node_of(name))}
            self._queue.put(lambda: self._write(lines, places, revisions, nodes))
        for follower in self._followers:
            follower.see(lines, places, revisions)

    def search(self, scope: Scope, count: int, wants: Wanted, since: float = 0.0) -> list[Kept]:
        """Return the last `count` wanted requests, by their end, the oldest first. Call it in a thread.

        `since`: those that ended before, in seconds since the epoch, need not be looked at.
        """
        records: deque[Kept] = deque()
        for path in self.written(scope):
            rows: deque[marks.Row] = deque(maxlen=count - len(records))
            first_ms = None
            for row in marks.rows(path):
                first_ms = first_ms or int(row.words[ENDED])
                if wants(row.words, row.app, row.tag):
                    rows.append(row)
            records.extendleft(row.as_kept() for row in reversed(rows))
            if len(records) >= count or (first_ms or 0) < since * 1000:
                break
        return list(records)

    def find(self, scope: Scope, request: str) -> Kept | None:
        """Return the request with this id; None if it is not kept. Call it in a thread."""
        for path in self.written(scope):
            for row in marks.rows(path, f" {request} "):
                if row.words[ID] == request:
                    return row.as_kept()
        return None

    def recent(self) -> set[str]:
        """Return the ids of the last requests that were kept, of all environments."""
        ids: set[str] = set()
        left_bytes = RECENT_BYTES
        for path in sorted(self._root.rglob("*.log"), key=_modified, reverse=True):
            with contextlib.suppress(OSError), path.open("rb") as file:
                begin = max(file.seek(0, os.SEEK_END) - left_bytes, 0)
                left_bytes -= file.tell() - begin
                file.seek(begin)
                for line in file.read().decode("ascii", "replace").split("\n"):
                    if (words := recorded.fields(line)) is not None:
                        ids.add(words[ID])
            if left_bytes <= 0:
                break
        return ids

    @contextlib.contextmanager
    def following(self, scope: Scope, wants: Wanted) -> Iterator["Follower"]:
        """Yield a reader of the wanted requests of an environment that end from now on."""
        follower = Follower(scope, wants, self.node_of)
        self._followers.add(follower)
        try:
            yield follower
        finally:
            self._followers.discard(follower)

    def show(self, reader: Sees) -> None:
        """Let a reader see the requests that end from now on, of all environments."""
        self._followers.add(reader)

    def hide(self, reader: Sees) -> None:
        """Let a reader see no more."""
        self._followers.discard(reader)

    def remove(self, scope: Scope) -> None:
        """Remove the requests of an environment that was deleted."""
        self._queue.put(lambda: self._remove(scope))

    def close(self) -> None:
        """Wait until everything is on disk; close the files."""
        self._queue.put(None)
        self._thread.join()

    def written(self, scope: Scope) -> list[Path]:
        """Return an environment's files, the newest first, when all that was added is in them. It blocks."""
        done = threading.Event()
        self._queue.put(done.set)
        done.wait(DISK_S)
        return sorted((self._root / folder(scope)).glob("*.log"), reverse=True)

    def _run(self) -> None:
        while (work := self._queue.get()) is not None:
            try:
                work()
            except Exception:
                log.exception("requests are not recorded")
        for file in self._files.values():
            file.close()

    def _write(
        self,
        lines: Sequence[Line],
        places: dict[str, Place | None],
        revisions: dict[str, str],
        nodes: dict[str, str],
    ) -> None:
        by_scope: dict[Scope, list[tuple[Line, Place]]] = {}
        for line in lines:
            if (place := places[line[ENDPOINT]]) is not None:
                by_scope.setdefault(place.scope, []).append((line, place))
        for scope, placed in by_scope.items():
            if scope not in self._files:
                self._files[scope] = _File(self._root / folder(scope), self._part_bytes)
            try:
                self._files[scope].append(placed, revisions, nodes)
            except OSError as error:
                self._lose(len(placed))
                self._files.pop(scope).close()
                if not self._failing:
                    log.warning("requests are not recorded: %s", error.strerror)
                self._failing = True
            else:
                self._told_again()

    def _lose(self, count: int) -> None:
        with self._counting:
            self._lost += count

    def _told_again(self) -> None:
        with self._counting:
            lost, self._lost = self._lost, 0
        if lost:
            log.warning("%d requests were not recorded", lost)
        self._failing = False

    def _remove(self, scope: Scope) -> None:
        if scope in self._files:
            self._files.pop(scope).close()
        directory = self._root / folder(scope)
        if scope != MAIN:
            shutil.rmtree(directory, ignore_errors=True)
            return
        for path in directory.glob("*.log"):
            path.unlink(missing_ok=True)


class Follower:
    """Reads the requests of an environment as they end; a slow reader loses some, and gets their number."""

    def __init__(self, scope: Scope, wants: Wanted, node_of: Callable[[str], str]) -> None:
        self._scope, self._node_of = scope, node_of
        self._wants = wants
        self._rows: deque[marks.Row] = deque()
        self._lost = 0
        self._some = asyncio.Event()

    def see(
        self, lines: Sequence[Line], places: dict[str, Place | None], revisions: dict[str, str]
    ) -> None:
        """Take in the wanted ones; called on the event loop."""
        for line in lines:
            place = places[line[ENDPOINT]]
            if place is None or place.scope != self._scope:
                continue
            if not self._wants(line, place.app, place.tag):
                continue
            if len(self._rows) < FOLLOWED:
                container = line[CONTAINER]
                node = self._node_of(container)
                self._rows.append(marks.Row(line, place.app, place.tag, revisions[container], node))
            else:
                self._lost += 1
        if self._rows:
            self._some.set()

    async def next(self, count: int) -> tuple[list[Kept], int]:
        """Wait for requests; return at most `count` of them, and how many after them were lost."""
        await self._some.wait()
        rows = [self._rows.popleft() for _ in range(min(count, len(self._rows)))]
        lost = 0
        if not self._rows:
            self._some.clear()
            lost, self._lost = self._lost, 0
        return [row.as_kept() for row in rows], lost


class _File:
    """The file of an environment that is written now."""

    def __init__(self, directory: Path, most_bytes: int) -> None:
        self._directory = directory
        self._most_bytes = most_bytes
        self._descriptor = -1
        self._places: dict[str, Place] = {}  # that the file has already
        self._containers: dict[str, str] = {}  # what each one's mark says

    def append(
        self,
        placed: Sequence[tuple[Line, Place]],
        revisions: dict[str, str],
        nodes: dict[str, str],
    ) -> None:
        """Write these requests, all or none: `OSError`. If they do not fit, they are in another file."""
        texts = [" ".join(line) for line, _ in placed]
        size = self._begin(sum(map(len, texts)))
        texts_of_line: list[str] = []
        for text, (line, place) in zip(texts, placed, strict=True):
            container = line[CONTAINER]
            ran = revisions[container], nodes.get(container, "")
            texts_of_line += self._marks(line, place, *ran)
            texts_of_line.append(f"{text}\n")
        unwritten = "".join(texts_of_line).encode("ascii", "replace")
        try:
            while unwritten:
                unwritten = unwritten[os.write(self._descriptor, unwritten) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, size)
            raise

    def close(self) -> None:
        """Close it; the next lines repeat all marks that a reader needs."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1
        self._places, self._containers = {}, {}

    def _marks(self, line: Line, place: Place, revision: str, node: str) -> Iterator[str]:
        """Yield the marks that a reader of the file needs before this line."""
        endpoint, container = line[ENDPOINT], line[CONTAINER]
        if self._places.get(endpoint) != place:
            self._places[endpoint] = place
            yield marks.of_endpoint(endpoint, place.app, place.tag)
        mark = marks.of_container(container, revision, node)
        if container != MISSING and self._containers.get(container) != mark:
            self._containers[container] = mark
            yield mark

    def _begin(self, more: int) -> int:
        """Open the newest file, or the next one if that has no room; return its size."""
        if self._descriptor >= 0:
            size = os.fstat(self._descriptor).st_size
            if size + more <= self._most_bytes:
                return size
            self.close()
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        there = sorted(self._directory.glob("*.log"))
        path = there[-1] if there else self._directory / f"{FIRST}.log"
        if there and path.stat().st_size + more > self._most_bytes:
            path = self._directory / f"{int(path.stem) + 1}.log"
            for old in there[: max(len(there) - PARTS + 1, 0)]:
                old.unlink(missing_ok=True)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, 0o600)
        size = os.fstat(self._descriptor).st_size
        if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
            size += os.write(self._descriptor, b"\n")  # a crash of the machine has left half a line
        return size


def _modified(path: Path) -> float:
    with contextlib.suppress(OSError):
        return path.stat().st_mtime
    return 0.0
