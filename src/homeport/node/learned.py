"""What an environment's zygotes import, learned from the containers that became ready there."""

import contextlib
import json
from dataclasses import dataclass, field
from pathlib import Path

#: What every container needs, whatever it serves.
BASE = (
    "uvicorn",
    "uvicorn.lifespan.off",
    "uvicorn.protocols.http.httptools_impl",
    "uvicorn.protocols.websockets.auto",
    "uvloop",
    "fastapi",
    "fastapi.middleware.cors",
    "anyio._backends._asyncio",
)
MAX_MODULES = 6000  # learned for one environment
MAX_UNSAFE = 20  # an environment with more of them is forked without what was learned


@dataclass(slots=True)
class Learned:
    """What is known of an environment's modules; kept on disk."""

    path: Path
    modules: list[str] = field(default_factory=list)
    unsafe: dict[str, str] = field(default_factory=dict)  # module -> reason
    reads: set[str] = field(default_factory=set)  # variables that imports look at

    @staticmethod
    def load(path: Path) -> "Learned":
        """What an earlier server has learned, or nothing."""
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            told = json.loads(path.read_text())
            return Learned(path, list(told["modules"]), dict(told["unsafe"]), set(told["reads"]))
        return Learned(path)

    def save(self) -> None:
        """Write it down; a full disk costs a server that comes later some time."""
        told = {"modules": self.modules, "unsafe": self.unsafe, "reads": sorted(self.reads)}
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            fresh = self.path.with_suffix(".new")
            fresh.write_text(json.dumps(told))
            fresh.replace(self.path)

    def add(self, modules: tuple[str, ...]) -> bool:
        """Whether there was anything new."""
        known = {*self.modules, *BASE}
        new = [m for m in modules if m not in known]
        if not new or len(self.modules) + len(new) > MAX_MODULES:
            return False
        self.modules += new
        self.save()
        return True

    def wanted(self) -> tuple[str, ...]:
        """What a zygote imports, in order."""
        if len(self.unsafe) > MAX_UNSAFE:
            return BASE
        avoid = tuple(f"{name}." for name in self.unsafe)
        learned = [m for m in self.modules if m not in self.unsafe and not m.startswith(avoid)]
        return tuple(dict.fromkeys((*BASE, *learned)))
