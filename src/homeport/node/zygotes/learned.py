"""Remembers which modules a function's script imports, from its containers that became ready."""

import contextlib
import hashlib
import json
from dataclasses import field
from pathlib import Path

from homeport.contract.dataclass import dataclass

#: The modules that every container needs.
BASE = (
    "uvicorn",
    "uvicorn.lifespan.off",
    "uvicorn.protocols.http.httptools_impl",
    "uvicorn.protocols.websockets.auto",
    "uvloop",
    "fastapi",
    "fastapi.middleware.cors",
    "anyio._backends._asyncio",
    "pydantic.v1",  # FastAPI imports it for the first endpoint
    "fastapi.telemetry._runtime",  # newer versions import it for the first request
    "homeport.runner.servers.asgi",  # the runner's own server, which needs those
    "homeport.runner.servers.wsgi",
)
MAX_MODULES = 6000  # of one function
MAX_REVISIONS = 3  # revisions of a function for which differing modules are kept
MAX_AGAIN = 5  # starts that were repeated in a fresh interpreter; after that nothing is preloaded for this revision
MAX_FILES = 1000
MAX_REASON = 500  # characters
EVERYTHING = "*"


@dataclass(slots=True)
class Learned:
    """The modules of a function with one image; kept on disk, also for later revisions."""

    path: Path
    modules: list[str] = field(default_factory=list)
    #: revision -> module -> why it must not be preloaded there
    unlike: dict[str, dict[str, str]] = field(default_factory=dict)
    again: dict[str, int] = field(default_factory=dict)  # revision -> repeated starts

    @staticmethod
    def place(root: Path, environment: str, app: str, function: str) -> Path:
        """Return the file of a function with one image."""
        name = hashlib.sha256(json.dumps([environment, app, function]).encode()).hexdigest()[:32]
        return root / f"{name}.json"

    @staticmethod
    def of(path: Path) -> "Learned":
        """Read what an earlier server has stored; empty if there is nothing."""
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
            stored = json.loads(path.read_text())
            unlike = {
                str(revision): dict(reasons) for revision, reasons in stored["unlike"].items()
            }
            return Learned(path, [str(m) for m in stored["modules"]], unlike, dict(stored["again"]))
        return Learned(path)

    def save(self) -> None:
        """Write it to disk; if that fails, a later server has to learn it again."""
        data = {"modules": self.modules, "unlike": self.unlike, "again": self.again}
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            fresh = self.path.with_suffix(".new")
            fresh.write_text(json.dumps(data))
            fresh.replace(self.path)

    def add(self, modules: tuple[str, ...]) -> None:
        """Add modules that a container has imported, in this order."""
        earlier = {*self.modules, *BASE}
        new = [m for m in modules if m not in earlier]
        if new and len(self.modules) + len(new) <= MAX_MODULES:
            self.modules += new
            self.save()

    def spoil(self, revision: str, modules: tuple[str, ...], reason: str) -> None:
        """Record preloaded modules that differ from the script's own imports."""
        reasons = self.unlike.setdefault(revision, {})
        room = max(MAX_MODULES - len(reasons), 0)
        new = [name for name in modules if name not in reasons][:room]
        if not new and EVERYTHING in reasons:
            return
        reason = reason[:MAX_REASON]
        reasons.update(dict.fromkeys(new, reason))
        self.again[revision] = self.again.get(revision, 0) + 1
        if self.again[revision] >= MAX_AGAIN or len(reasons) >= MAX_MODULES:
            reasons[EVERYTHING] = reason
        while len(self.unlike) > MAX_REVISIONS:
            oldest = next(iter(self.unlike))
            del self.unlike[oldest]
            self.again.pop(oldest, None)
        self.save()

    def wanted(self, revision: str) -> tuple[str, ...]:
        """Return the modules that a zygote of this function imports besides `BASE`, in order."""
        unlike = self.unlike.get(revision, {})
        if EVERYTHING in unlike:
            return ()
        avoid = tuple(f"{name}." for name in unlike)
        return tuple(m for m in self.modules if m not in unlike and not m.startswith(avoid))

    def avoid(self, revision: str) -> tuple[str, ...]:
        """Return the modules that must not be preloaded for this revision, also if another module needs them."""
        return tuple(self.unlike.get(revision, {}))

    def objection(self, revision: str, preloaded: frozenset[str]) -> str:
        """Return why this revision cannot be forked from a process with these modules; empty if it can."""
        for module, reason in self.unlike.get(revision, {}).items():
            if module in preloaded:
                return f"{reason} (`{module}`)"
        return ""


def tidy(root: Path) -> None:
    """Delete the least recently used files if there are too many."""
    with contextlib.suppress(OSError):
        files = sorted(root.glob("*.json"), key=lambda path: path.stat().st_mtime)
        for path in files[:-MAX_FILES]:
            path.unlink(missing_ok=True)
