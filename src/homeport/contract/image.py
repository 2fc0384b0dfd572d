"""An image as a record of the builder's calls, in order."""

import hashlib
import json
from dataclasses import field
from typing import Any

from homeport.contract.dataclass import dataclass

#: Steps that build nothing: they set values for the containers.
CONFIG_STEPS = frozenset(
    {"env", "workdir", "add_local_file", "add_local_dir", "add_local_python_source"}
)


#: Steps that change a file system, so that the image has one of its own.
ROOTED_STEPS = frozenset(
    {"from_registry", "from_gcp_artifact_registry", "from_aws_ecr", "from_dockerfile"}
    | {"from_scratch", "from_id", "from_name", "micromamba", "pip_install_private_repos"}
    | {"apt_install", "run_commands", "run_function", "dockerfile_commands", "micromamba_install"}
)


PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # where no step has set it
HOME = "/root"  # the app's directory in Modal's containers; here it stands for the source tree


OUTSIDE = ".outside"
#: No files can be added below these paths: they belong to the kernel and to the sandbox.
RESERVED = ("/proc", "/sys", "/dev", "/.cell", "/run/homeport", "/run/homeport-urls")


def place(path: str, tree: str) -> str:
    """Return a container's path on this machine, if the container's `/root` is `tree`.

    >>> place("/root/data", "/t"), place("data", "/t"), place("/root", "/t"), place("/srv", "/t")
    ('/t/data', '/t/data', '/t', '/srv')
    """
    if path == HOME or path.startswith(f"{HOME}/"):
        path = path[len(HOME) + 1 :]
    return f"{tree}/{path}".rstrip("/") if not path.startswith("/") else path


def outside(tree: str) -> str:
    """Return the directory of a revision's files outside /root; its files below /root are in `tree`.

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
    """The steps of an image; without steps, containers use the interpreter that runs homeport."""

    steps: tuple[Step, ...] = ()

    @property
    def has_environment(self) -> bool:
        """True if the image is built, and containers do not use homeport's own interpreter."""
        return any(step.name not in CONFIG_STEPS for step in self.steps)

    @property
    def is_rooted(self) -> bool:
        """True if the image has a root file system of its own, so that one is downloaded."""
        return any(step.name in ROOTED_STEPS for step in self.steps)

    @property
    def key(self) -> str:
        """A hash of the steps: equal images share their layers."""
        text = json.dumps([(s.name, s.args) for s in self.steps], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def environ(self) -> dict[str, str]:
        """The variables of all `.env(…)` steps; a later step wins."""
        merged: dict[str, str] = {}
        for step in self.steps:
            if step.name == "env":
                merged.update(step.args.get("vars", {}))
        return merged

    @property
    def entrypoint(self) -> tuple[str, ...]:
        """The last `.entrypoint(…)`; empty without one."""
        commands = (
            s.args.get("commands", ()) for s in reversed(self.steps) if s.name == "entrypoint"
        )
        return tuple(next(commands, ()))

    @property
    def workdir(self) -> str | None:
        """The last `.workdir(…)`, or None."""
        return next((s.args["path"] for s in reversed(self.steps) if s.name == "workdir"), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """A built image on a node, for `homeport image list`."""

    key: str
    steps: tuple[str, ...]  # as text for users: `pip_install flask`
    python_version: str
    size_bytes: int
    created_at: float  # seconds since the epoch
    used_at: float
    used_by: int = 0  # images that contain it as a layer
