"""PURE: an operation of an image with a root file system (one layer, or one setting), and the settings before it."""

import dataclasses
import posixpath
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from homeport.contract import dockerfile
from homeport.contract.dataclass import dataclass
from homeport.contract.image import PATH, Step

SHELL = ("/bin/sh", "-c")
SET = frozenset({"env", "workdir", "shell", "entrypoint", "cmd"})
#: They make no layer.
SETTINGS = SET | {"ARG", "ENV", "STAGE"}
#: Arguments that do not change the layer.
_NOT_IN_KEY = frozenset({"local_path", "force_build", "given", "secrets", "volumes", "hint"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The settings with which an operation works, and in the end a container."""

    environ: Mapping[str, str] = field(default_factory=lambda: {"PATH": PATH})
    workdir: str = ""  # empty: no step has set it
    shell: tuple[str, ...] = SHELL
    entrypoint: tuple[str, ...] = ()
    arguments: Mapping[str, str] = field(default_factory=dict)  # a Dockerfile's ARG

    @property
    def variables(self) -> dict[str, str]:
        """Return the values of `$NAME` in a Dockerfile."""
        return {**self.arguments, **self.environ}

    def place(self, path: str) -> str:
        """Return an absolute path; a relative one begins at the working directory."""
        return posixpath.normpath(posixpath.join("/", self.workdir or "/", path))


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """One operation of one step."""

    kind: str
    args: Mapping[str, Any]
    step: Step  # that it belongs to: for messages and their place
    title: str  # as a person reads it

    @property
    def builds(self) -> bool:
        """True if the operation makes a layer."""
        return self.kind not in SETTINGS

    @property
    def stages(self) -> list[str]:
        """The stages of a Dockerfile that the operation takes files from."""
        names = [self.args.get("stage", "")]
        names += [mount.get("stage", "") for mount in self.args.get("mounts", ())]
        return [name for name in names if name]

    def apply(self, config: Config) -> Config:
        """Return the settings after this operation, if it only sets something."""
        args = self.args
        if self.kind == "env":
            return dataclasses.replace(config, environ={**config.environ, **args["vars"]})
        if self.kind == "ENV":
            values = {k: dockerfile.expand(v, config.variables) for k, v in args["pairs"]}
            return dataclasses.replace(config, environ={**config.environ, **values})
        if self.kind == "ARG":
            value = dockerfile.expand(args["value"], config.variables)
            return dataclasses.replace(config, arguments={**config.arguments, args["name"]: value})
        if self.kind == "workdir":
            path = dockerfile.expand(args["path"], config.variables)
            return dataclasses.replace(config, workdir=config.place(path))
        if self.kind == "shell":
            return dataclasses.replace(config, shell=tuple(args["commands"]) or SHELL)
        if self.kind == "entrypoint":
            return dataclasses.replace(config, entrypoint=tuple(args["commands"]))
        return config

    def key_parts(self) -> list[object]:
        """Return the values that the layer depends on, besides the layers below and the variables."""
        args = {k: v for k, v in self.args.items() if k not in _NOT_IN_KEY}
        return [self.kind, args]


def op(step: Step, kind: str, title: str, **args: Any) -> Op:
    """One operation."""
    return Op(kind=kind, args=args, step=step, title=title)
