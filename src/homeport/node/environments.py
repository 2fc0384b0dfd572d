"""Which interpreter runs an image, and which of its steps cannot be carried out here.

There is one environment: the interpreter that runs homeport. A step that installs packages is
honoured when they are installed there already.
"""

import re
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from homeport.contract.errors import ImageError
from homeport.contract.image import CONFIG_STEPS, Environment, Image, Step

INSTALLS = frozenset({"pip_install", "uv_pip_install"})
_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*([^;@]*)")
_CLAUSE = re.compile(r"(==|>=|<=|!=|~=|>|<)\s*([0-9][0-9a-zA-Z.*+!-]*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """An image that containers can start from."""

    key: str
    python: str  # the interpreter
    directory: Path  # what is known of the environment is kept here
    runner_path: str = ""  # comes last on `sys.path`, where ours are not the user's packages


class Environments:
    """Every environment of this machine."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def make(
        self, image: Image, _source: str, _environ: Mapping[str, str], _say: Callable[[str], None]
    ) -> None:
        """Build what is not there yet; raises `ImageError`."""
        check(image)

    def all(self) -> Collection[Environment]:
        """Those that were built."""
        return []

    async def prune(self, _keep: Collection[Image]) -> Collection[Environment]:
        """Remove those that none of these images needs."""
        return []

    def of(self, _image: Image) -> Made:
        """Where an image's containers start from."""
        return Made(key="default", python=sys.executable, directory=self._root / "default")


def check(image: Image) -> None:
    """Raise `ImageError` for the first step that this node cannot carry out."""
    for step in image.steps:
        if step.name in CONFIG_STEPS | {"debian_slim"}:
            continue
        if step.name in INSTALLS:
            _check_installed(step)
        else:
            raise ImageError(
                f"`{step.name}` needs a container engine or an environment of its own, "
                "which this version cannot make",
                where=step.where,
                hint="install what it brings into the environment that runs homeport, "
                "and leave the step out",
            )


def _check_installed(step: Step) -> None:
    asked = [*step.args.get("packages", []), *(step.args.get("requirements") or [])]
    for requirement in asked:
        match = _REQUIREMENT.match(requirement)
        if match is None:
            raise ImageError(f"`{requirement}` is not a requirement", where=step.where)
        name, clauses = match.groups()
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            raise ImageError(
                f"`{step.name}` asks for `{name}`, which is not installed here",
                where=step.where,
                hint=f"`uv pip install '{requirement}'` into the environment that runs homeport",
            ) from None
        for operator, wanted in _CLAUSE.findall(clauses):
            if not _satisfies(version, operator, wanted):
                raise ImageError(
                    f"`{step.name}` asks for `{requirement}`, and {name} {version} is installed",
                    where=step.where,
                    hint=f"`uv pip install '{requirement}'` into the environment that runs homeport",
                )


def _satisfies(version: str, operator: str, wanted: str) -> bool:
    if wanted.endswith(".*"):
        same = _numbers(version)[: wanted.count(".")] == _numbers(wanted[:-2])
        return same if operator == "==" else not same
    have, want = _numbers(version), _numbers(wanted)
    length = max(len(have), len(want))
    left, right = have + (0,) * (length - len(have)), want + (0,) * (length - len(want))
    if operator == "~=":
        return left >= right and have[: len(want) - 1] == want[:-1]
    return {
        "==": left == right,
        "!=": left != right,
        ">=": left >= right,
        "<=": left <= right,
        ">": left > right,
        "<": left < right,
    }[operator]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.split("+", maxsplit=1)[0]))
