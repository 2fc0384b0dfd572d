"""The lines of a file of requests, read with the marks between them (state/requests.py writes both).

A mark says which app an endpoint belongs to, or which revision a container runs on which machine, from there on.
"""

import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from homeport.contract import recorded
from homeport.contract.dataclass import dataclass
from homeport.contract.recorded import CONTAINER, ENDPOINT
from homeport.contract.traffic import RequestRecord

AT_ONCE = 5_000  # lines between two pauses of a search, for the other threads
BREATH_S = 0.001
ENDPOINT_MARK, CONTAINER_MARK = "@", "#"

Line = Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One request, and whose it is."""

    request: RequestRecord
    app: str
    tag: str
    revision: str  # of the container; empty: no container has answered, or it is not known
    node: str = ""  # the machine that has joined and runs the container; empty: the server's own


def of_endpoint(endpoint: str, app: str, tag: str) -> str:
    """Return the mark of an endpoint."""
    return f"{ENDPOINT_MARK} {endpoint} {json.dumps([app, tag])}\n"


def of_container(container: str, revision: str, node: str) -> str:
    """Return the mark of a container."""
    return f"{CONTAINER_MARK} {container} {json.dumps([revision, node] if node else revision)}\n"


class Marks:
    """The contents of a file's marks up to some line."""

    def __init__(self) -> None:
        self.places: dict[str, tuple[str, str]] = {}  # endpoint -> app, tag
        self.revisions: dict[str, str] = {}  # of containers
        self.nodes: dict[str, str] = {}  # of containers on other machines

    def take(self, line: str) -> bool:
        """Return whether a line is a mark, and record its contents."""
        if line[:1] not in (ENDPOINT_MARK, CONTAINER_MARK):
            return False
        with contextlib.suppress(ValueError, TypeError):
            mark, name, value = line.split(" ", 2)
            if mark == ENDPOINT_MARK:
                app, tag = json.loads(value)
                self.places[name] = (app, tag)
            elif isinstance(ran := json.loads(value), list):
                self.revisions[name], self.nodes[name] = ran
            else:
                self.revisions[name] = ran
                self.nodes.pop(name, None)
        return True


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a file, with the contents of the marks before it."""

    words: Line
    app: str
    tag: str
    revision: str
    node: str

    def as_kept(self) -> Kept:
        """Return the request, and whose it is."""
        return Kept(
            request=recorded.decode(self.words),
            app=self.app,
            tag=self.tag,
            revision=self.revision,
            node=self.node,
        )


def rows(path: Path, needle: str = "") -> Iterator[Row]:
    """Yield the requests of a file, the oldest first; only those with the `needle` in their line."""
    marks = Marks()
    try:
        text = path.read_bytes().decode("ascii", "replace")
    except OSError:  # it was deleted meanwhile
        return
    for number, line in enumerate(text.split("\n")[:-1]):
        if number % AT_ONCE == 0:
            time.sleep(BREATH_S)
        if marks.take(line) or needle not in line:
            continue
        if (words := recorded.fields(line)) is not None:
            app, tag = marks.places.get(words[ENDPOINT], ("", ""))
            container = words[CONTAINER]
            ran = marks.revisions.get(container, ""), marks.nodes.get(container, "")
            yield Row(words, app, tag, *ran)
