"""PURE: an image's steps as layers, each with its key; and the steps that cannot be built without isolation.

A layer is the state after a step that builds something. Its key says everything that its content
depends on: the interpreter's version, and every step up to it with the variables that it saw.
"""

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field

from homeport.contract.errors import ImageError
from homeport.contract.image import Image, Step

SHELL = ("/bin/sh", "-c")
LAYOUT = 1  # of an environment's directory; a new number builds all layers again
BASE = Step(name="debian_slim")
COPIES = frozenset({"add_local_file", "add_local_dir", "add_local_python_source"})
PACKAGES = frozenset(
    {
        "pip_install",
        "uv_pip_install",
        "pip_install_from_requirements",
        "pip_install_from_pyproject",
        "uv_sync",
        "poetry_install_from_file",
    }
)
#: The user's own code, which may change a file where it stands.
RUNS = frozenset({"run_commands", "run_function"})
#: What later steps or containers see, and what is only looked at.
SETTINGS = frozenset({"env", "workdir", "shell", "cmd", "entrypoint", "apt_install"})

_ROOT = "needs a root file system of its own, and containers are not isolated here"
_LATER = "is not there yet"
_FROM_STEPS = "begin with `Image.debian_slim()` and add its packages with `uv_pip_install`"
_CONDA = "begin with `Image.debian_slim()` and take the packages' wheels with `uv_pip_install`"
_PRIVATE = '`uv_pip_install("git+https://…")`, with git\'s credentials on this machine'
#: step -> why it cannot be built where containers are not isolated, and what to do instead
ELSEWHERE = {
    "from_registry": (_ROOT, _FROM_STEPS),
    "from_gcp_artifact_registry": (_ROOT, _FROM_STEPS),
    "from_aws_ecr": (_ROOT, _FROM_STEPS),
    "from_dockerfile": (_ROOT, f"{_FROM_STEPS} and `run_commands`"),
    "from_scratch": ("has no Python to run the function with", _FROM_STEPS),
    "dockerfile_commands": (_ROOT, "write its RUN lines as `run_commands`, its ENV as `env`"),
    "entrypoint": (_LATER, "do what it does in the script, or under `@modal.enter()`"),
    "micromamba": (_ROOT, _CONDA),
    "micromamba_install": (_ROOT, _CONDA),
    "from_id": (_LATER, _FROM_STEPS),
    "from_name": (_LATER, _FROM_STEPS),
    "pip_install_private_repos": (_LATER, _PRIVATE),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One step that builds something, with the variables, directory and shell that it sees."""

    key: str
    parent: str  # key of the layer below; empty for the lowest
    step: Step
    steps: tuple[str, ...]  # all up to this one, as a person reads them
    environ: Mapping[str, str] = field(default_factory=dict)  # of the `env` steps before it
    workdir: str | None = None
    shell: tuple[str, ...] = SHELL


def check(image: Image) -> None:
    """Raise `ImageError` for the first step that cannot be built without isolation."""
    for step in image.steps:
        if step.name == "entrypoint" and not step.args.get("commands"):
            continue
        if step.name in ELSEWHERE:
            why, instead = ELSEWHERE[step.name]
            hint = f"`homeport doctor` says why; or {instead}" if why is _ROOT else instead
            raise ImageError(f"`{step.name}` {why}", where=step.where, hint=hint)
        if step.name not in COPIES | PACKAGES | RUNS | SETTINGS | {BASE.name}:
            raise ImageError(f"`{step.name}` is no step that this server knows", where=step.where)


def of(image: Image, python_version: str, source: str) -> list[Layer]:
    """The image's layers from the lowest up.

    `source` tells one deploy from another: a step with `force_build` is built once in each.
    """
    told: list[object] = [LAYOUT, platform.machine(), python_version]
    environ: dict[str, str] = {}
    workdir: str | None = None
    shell = SHELL
    layers: list[Layer] = []
    words: tuple[str, ...] = ()
    base = next((step for step in image.steps if step.name == BASE.name), BASE)
    for step in (base, *(step for step in image.steps if step.name != BASE.name)):
        if step.name == "env":
            environ = {**environ, **step.args.get("vars", {})}
        elif step.name == "workdir":
            workdir = step.args["path"]
        elif step.name == "shell":
            shell = tuple(step.args.get("commands", ())) or SHELL
        if not _builds(step):
            continue
        args = {k: v for k, v in step.args.items() if k not in {"local_path", "python_version"}}
        told.append([step.name, args, environ, workdir, shell])
        if step.args.get("force_build"):
            told.append(source)
        text = json.dumps(told, sort_keys=True)
        words = (*words, in_words(step))
        layers.append(
            Layer(
                key=hashlib.sha256(text.encode()).hexdigest()[:16],
                parent=layers[-1].key if layers else "",
                step=step,
                steps=words,
                environ=environ,
                workdir=workdir,
                shell=shell,
            )
        )
    return layers


def in_words(step: Step) -> str:
    """Return a step as text for people, without variables, indexes and options, which may be secret."""
    args = step.args
    told = [*args.get("packages", []), *args.get("commands", []), *args.get("modules", [])]
    told += [str(args[k]) for k in ("python_version", "remote_path", "qualname") if args.get(k)]
    return " ".join([step.name, *told])


def _builds(step: Step) -> bool:
    if step.name in COPIES:
        return bool(step.args.get("copy"))
    return step.name not in SETTINGS
