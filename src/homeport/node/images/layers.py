"""PURE: the steps of an environment as layers, each with its key.

A layer is the state after a step that builds something. Its key depends on everything that its content depends on:
the interpreter's version, and every step up to it with the variables that it saw.
"""

import hashlib
import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import field

from homeport.contract.dataclass import dataclass
from homeport.contract.errors import ImageError
from homeport.contract.image import Image, Step

LAYOUT = 2  # of an environment's directory; a new number builds all layers again
BASE = Step(name="debian_slim")
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
#: Steps that build nothing and only change what later steps or containers see. Local files are in the source tree.
SETTINGS = frozenset(
    {"env", "workdir", "shell", "cmd", "entrypoint"}
    | {"add_local_file", "add_local_dir", "add_local_python_source"}
)
#: Arguments that do not change the layer; secrets are added to the key in another way.
_NOT_IN_KEY = frozenset({"local_path", "python_version", "secrets", "volumes"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One step that builds something, with the variables, directory and shell that it sees."""

    key: str
    parent: str  # key of the layer below; empty for the lowest
    step: Step
    steps: tuple[str, ...]  # all up to this one, as a person reads them
    environ: Mapping[str, str] = field(default_factory=dict)  # of the `env` steps before it


def check(image: Image) -> None:
    """Raise `ImageError` for the first step that needs a root file system or is not valid."""
    for step in image.steps:
        if step.name not in PACKAGES | SETTINGS | {BASE.name}:
            raise ImageError(
                f"`{step.name}` is not a step that this server knows", where=step.where
            )


def of(
    image: Image,
    python_version: str,
    source: str,
    extra_of: Callable[[Step], list[object]] = lambda _step: [],
) -> list[Layer]:
    """Return the image's layers, the lowest first.

    `extra_of` returns the values that the secrets of a step add to its key.
    `source` distinguishes deploys: a step with `force_build` is built once in each.
    """
    inputs: list[object] = [LAYOUT, platform.machine(), python_version]
    environ: dict[str, str] = {}
    layers: list[Layer] = []
    words: tuple[str, ...] = ()
    base = next((step for step in image.steps if step.name == BASE.name), BASE)
    for step in (base, *(step for step in image.steps if step.name != BASE.name)):
        if step.name == "env":
            environ = {**environ, **step.args.get("vars", {})}
        if not _builds(step):
            continue
        args = {k: v for k, v in step.args.items() if k not in _NOT_IN_KEY}
        inputs += [[step.name, args, environ], *extra_of(step)]
        if step.args.get("force_build"):
            inputs.append(source)
        text = json.dumps(inputs, sort_keys=True)
        words = (*words, in_words(step))
        layers.append(
            Layer(
                key=hashlib.sha256(text.encode()).hexdigest()[:16],
                parent=layers[-1].key if layers else "",
                step=step,
                steps=words,
                environ=environ,
            )
        )
    return layers


def in_words(step: Step) -> str:
    """Return a step as text for people, without variables, indexes and options, which may be secret."""
    args = step.args
    texts = [*args.get("packages", []), *args.get("commands", []), *args.get("modules", [])]
    texts += [str(args[k]) for k in ("python_version", "remote_path", "qualname") if args.get(k)]
    return " ".join([step.name, *texts])


def _builds(step: Step) -> bool:
    return step.name not in SETTINGS
