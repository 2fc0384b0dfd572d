"""What an image is made of: a record of the builder's calls, in order."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

#: Steps that build nothing: they say what a container finds when it starts.
CONFIG_STEPS = frozenset(
    {"env", "workdir", "add_local_file", "add_local_dir", "add_local_python_source"}
)


HOME = "/root"  # in the original's containers; here it stands for the app's directory


OUTSIDE = ".outside"
#: Nothing can be added there: the kernel's own files, and the sandbox's.
RESERVED = ("/proc", "/sys", "/dev", "/.cell")


def place(path: str, tree: str) -> str:
    """Where a container's path is on this machine, if its `/root` is `tree`.

    >>> place("/root/data", "/t"), place("data", "/t"), place("/root", "/t"), place("/srv", "/t")
    ('/t/data', '/t/data', '/t', '/srv')
    """
    if path == HOME or path.startswith(f"{HOME}/"):
        path = path[len(HOME) + 1 :]
    return f"{tree}/{path}".rstrip("/") if not path.startswith("/") else path


def outside(tree: str) -> str:
    """Where the files are that a revision adds elsewhere than below /root; its other files are in `tree`.

    >>> outside("/t/r1")
    '/t/r1.outside'
    """
    return f"{tree}{OUTSIDE}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One builder call, such as `pip_install("flask")`."""

    name: str
    args: dict[str, Any] = field(default_factory=dict)  # JSON values only
    where: str = ""  # `hello.py:7`, for errors that name the step


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """The steps of an image; none means the interpreter that runs homeport."""

    steps: tuple[Step, ...] = ()

    @property
    def has_environment(self) -> bool:
        """Whether it is made real in a place of its own, and not by the interpreter of homeport."""
        return any(step.name not in CONFIG_STEPS for step in self.steps)

    @property
    def key(self) -> str:
        """A hash of what the steps say: equal images share one environment."""
        text = json.dumps([(s.name, s.args) for s in self.steps], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def environ(self) -> dict[str, str]:
        """The variables that `.env(…)` steps set, the last one winning."""
        merged: dict[str, str] = {}
        for step in self.steps:
            if step.name == "env":
                merged.update(step.args.get("vars", {}))
        return merged

    @property
    def workdir(self) -> str | None:
        """The last `.workdir(…)`, or None."""
        return next((s.args["path"] for s in reversed(self.steps) if s.name == "workdir"), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """An image made real on a node, for `homeport image list`."""

    key: str
    steps: tuple[str, ...]  # as a person reads them: `pip_install flask`
    python_version: str
    size_bytes: int
    created_at: float  # seconds since the epoch
    used_at: float
