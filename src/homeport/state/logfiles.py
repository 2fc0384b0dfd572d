"""Appends lines to the apps' log files, and reads the last lines without the rest.

state/logs.py calls it in threads. A file is read backwards, so that the last lines of a large log take no
longer than those of a small log.
"""

import contextlib
import dataclasses
import json
import os
import shutil
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from homeport.contract import codec
from homeport.contract.container import LogLine
from homeport.contract.dataclass import dataclass
from homeport.state.scope import MAIN, Scope, folder

BLOCK_BYTES = 256 * 1024
OPEN_FILES = 32
AT_ONCE = 50  # lines in one write: all of them or none
BREATH_S = 0.001  # a pause between two blocks, for the other threads
BEGINNING = b'{"at":'
STEP_S = 3600.0  # if the clock was set back by more, `since` may miss lines
FIELDS = tuple(field.name for field in dataclasses.fields(LogLine) if field.name != "within")
AppKey = tuple[Scope, str]


@dataclass
class Part:
    """A file's state at one moment: later lines and a new name do not change it."""

    file: BinaryIO
    size: int

    def close(self) -> None:
        """Read it no more."""
        self.file.close()


class Files:
    """All apps' files. No method raises `OSError`: lines that cannot be written are counted."""

    def __init__(self, root: Path, most_bytes: int) -> None:
        self._root = root
        self._most_bytes = most_bytes
        self._open: OrderedDict[AppKey, int] = (
            OrderedDict()
        )  # app -> descriptor, the last used at the end
        self._lost: Counter[AppKey] = Counter()
        self._why: dict[AppKey, str] = {}
        for path in root.glob("*.1.jsonl"):
            # As they were called once: another app may have that name.
            app = path.name.removesuffix(".1.jsonl")
            with contextlib.suppress(OSError, ValueError, TypeError), path.open("rb") as file:
                if codec.loads(LogLine, file.readline()).app == app:
                    path.rename(self._path((MAIN, app), ".1"))

    def append(self, app: AppKey, lines: Sequence[LogLine]) -> None:
        """Append the lines; a file always ends with a whole line."""
        for at in range(0, len(lines), AT_ONCE):
            self._append(app, lines[at : at + AT_ONCE])

    def _append(self, app: AppKey, lines: Sequence[LogLine]) -> None:
        notices = []
        if count := self._lost[app]:
            notices = [missing(lines[0], count, self._why[app])]
        try:
            self._write(app, b"".join(encoded(line) for line in (*notices, *lines)))
        except OSError as error:
            self._lost[app] += len(lines)
            self._why[app] = error.strerror or str(error)
        else:
            del self._lost[app]

    def parts(self, app: AppKey) -> list[Part]:
        """Return the app's files in their present state, the older first."""
        parts = []
        for path in (self._path(app, ".1"), self._path(app)):
            with contextlib.suppress(OSError):
                file = path.open("rb")
                parts.append(Part(file, os.fstat(file.fileno()).st_size))
        return parts

    def close(self) -> None:
        """Give them back."""
        while self._open:
            os.close(self._open.popitem()[1])

    def _write(self, app: AppKey, data: bytes) -> None:
        descriptor = self._descriptor(app)
        size = os.fstat(descriptor).st_size
        if size and size + len(data) > self._most_bytes:
            os.close(self._open.pop(app))
            self._path(app).replace(self._path(app, ".1"))
            descriptor, size = self._descriptor(app), 0
        unwritten = data
        try:
            while unwritten:
                unwritten = unwritten[os.write(descriptor, unwritten) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, size)
            raise

    def _descriptor(self, app: AppKey) -> int:
        if app not in self._open:
            while len(self._open) >= OPEN_FILES:
                os.close(self._open.popitem(last=False)[1])
            self._path(app).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._open[app] = os.open(self._path(app), flags, 0o600)
            self._end_line(app)
        self._open.move_to_end(app)
        return self._open[app]

    def _end_line(self, app: AppKey) -> None:
        """End an incomplete line, which a crash of the machine has left."""
        with self._path(app).open("rb") as file:
            if file.seek(0, os.SEEK_END) == 0:
                return
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                os.write(self._open[app], b"\n")

    def _path(self, app: AppKey, part: str = "") -> Path:
        scope, name = app
        return self._root / folder(scope) / f"{name}.jsonl{part}"

    def remove(self, scope: Scope) -> None:
        """Remove the files of an environment; those of MAIN stay."""
        for app in [app for app in self._open if app[0] == scope]:
            os.close(self._open.pop(app))
        if scope != MAIN:
            shutil.rmtree(self._root / folder(scope), ignore_errors=True)


def encoded(line: LogLine) -> bytes:
    """Return a line for a file; the same as `codec.dumps` makes, in a quarter of the time."""
    values = {name: getattr(line, name) for name in FIELDS}
    text = json.dumps(values, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8", "replace") + b"\n"


def missing(near: LogLine, count: int, why: str) -> LogLine:
    """Return the line that says that lines before `near` were lost."""
    return dataclasses.replace(
        near,
        text=f"{count} line{'s' if count > 1 else ''} missing here: {why}",
        source="system",
        request="",
    )


def last(
    parts: Sequence[Part],
    count: int,
    wants: Callable[[LogLine], bool],
    only: Mapping[str, str],
    since: float,
) -> list[bytes]:
    """Return the last `count` wanted lines, the oldest first; close the files. See `Logs.tail`."""
    needles = [
        f"{json.dumps(name)}:{json.dumps(value, ensure_ascii=False)}".encode()
        for name, value in only.items()
    ]
    lines: list[bytes] = []
    try:
        for part in reversed(parts):
            for line in _backwards(part):
                if len(lines) >= count or _at(line) < since - STEP_S:
                    break
                if all(needle in line for needle in needles) and _is_wanted(line, wants):
                    lines.append(line + b"\n")
    finally:
        for part in parts:
            part.close()
    return lines[::-1]


def _at(line: bytes) -> float:
    """Return when a line was printed, by its first field; infinity for text that is not a line."""
    try:
        return float(line[len(BEGINNING) : line.index(b",")])
    except ValueError:
        return float("inf")


def _is_wanted(line: bytes, wants: Callable[[LogLine], bool]) -> bool:
    with contextlib.suppress(ValueError, TypeError):  # a line that homeport has not written
        return wants(codec.loads(LogLine, line))
    return False


def _backwards(part: Part) -> Iterator[bytes]:
    """Yield the file's lines, the last one first."""
    at, incomplete = part.size, b""
    while at > 0:
        begin = max(at - BLOCK_BYTES, 0)
        part.file.seek(begin)
        incomplete, *lines = (part.file.read(at - begin) + incomplete).split(b"\n")
        yield from (line for line in reversed(lines) if line)
        at = begin
        time.sleep(BREATH_S)
    if incomplete:
        yield incomplete
