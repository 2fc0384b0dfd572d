"""A cache of wheels that all images share, and that no step of an image can write.

A step may run code of a package (a source distribution's build, a `.pth` file, an image's own Python), so what it
writes could be a trap for the next. Such a step sees the cache under a layer of its own, which is thrown away.
The cache is filled before it, by uv in a cell where no code of a package runs: with homeport's own Python, and
without builds. What the step asks of other indexes is not fetched for all, because it may be private.
"""

import asyncio
import dataclasses
import hashlib
import json
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from homeport.cell import host, identity
from homeport.cell.description import Bind
from homeport.contract import codec
from homeport.contract.errors import ImageError
from homeport.contract.image import HOME, PATH, Step
from homeport.node.images import store
from homeport.node.images.equipment import GIVEN, equipment
from homeport.node.images.installers import AS_PIP_DOES
from homeport.node.images.owned import hands
from homeport.node.images.store import Say

PLACE = f"{GIVEN}/cache"
#: Where the packages come from, or how: then they are not what everybody would get.
_OTHERWISE = ("index_url", "extra_index_url", "find_links", "extra_options")
#: A package by its name, with versions or a marker. No path, no URL, no option.
_NAMED = re.compile(r"[A-Za-z0-9][\w.-]*\s*(\[[\w\s,.-]*\])?\s*([<>=!~;(][^@/\\#]*)?")
#: In memory, so that nothing has to be deleted: there are links to the cache, and few small files.
_TARGET = "/dev/shm/fetched"  # noqa: S108 - the cell's own
_TOLD = ("Downloading ", " Downloaded ")


class Wheels:
    """The cache of one home."""

    def __init__(self, home: Path) -> None:
        self._directory = home / "cache" / "wheels"
        self._known = home / "cache" / "fetched"  # an empty file for each list that is in the cache

    async def bind(self) -> Bind:
        """Show the cache to a step, which may write over it and not into it."""
        await asyncio.to_thread(self._make)
        return Bind(str(self._directory), PLACE)

    async def fetch(
        self, step: Step, variables: Mapping[str, str], version: str, trial: Path, say: Say
    ) -> None:
        """Fetch the wheels that a step is about to install. `trial` is a directory for this alone.

        `variables` are the step's own variables, and `version` is its Python's. Whatever cannot be fetched is
        left to the step, which says why.
        """
        packages = named(step)
        key_text = json.dumps([step.name, bool(step.args.get("pre")), version, *packages])
        marker = self._known / hashlib.sha256(key_text.encode()).hexdigest()
        if not packages or marker.exists() or any(name.startswith("UV_") for name in variables):
            return
        try:
            await asyncio.to_thread(trial.mkdir, mode=0o700)
            order = await self._order(step, packages, version, trial)
            if (await hands.ask(order, _downloads(say))).code == 0:
                await asyncio.to_thread(marker.touch)
        except ImageError:
            return
        finally:
            await asyncio.to_thread(store.discard, trial)

    async def _order(
        self, step: Step, wanted: list[str], version: str, trial: Path
    ) -> dict[str, Any]:
        await asyncio.to_thread(self._make)
        uv = equipment()
        # The packages are only looked at, so links to them in the cache are enough.
        words = [uv.program, "pip", "install", "--no-build", "--link-mode", "symlink"]
        words += ["--python", sys.executable, "--python-version", version, "--target", _TARGET]
        words += ["--prerelease", "allow"] if step.args.get("pre") else []
        words += AS_PIP_DOES if step.name != "uv_pip_install" else ()
        cache = Bind(str(self._directory), PLACE, writable=True)
        described = host.cell(host.interpreter(sys.executable), binds=[*uv.binds, cache])
        cell = dataclasses.replace(described, storage=str(trial), ids=identity.own())
        return {
            "do": "run",
            "cell": codec.encode(cell),
            "commands": [["", [*words, "--", *wanted]]],
            "cwd": "/",
            "environ": {"HOME": HOME, "PATH": PATH, **uv.environ, "UV_CACHE_DIR": PLACE},
        }

    def _make(self) -> None:
        if not self._directory.is_dir():
            self._known.mkdir(parents=True, exist_ok=True, mode=0o700)
            hands.mkdir(self._directory)


def named(step: Step) -> list[str]:
    """Return the packages of a step that uv may fetch for all images: those with a name, of the usual indexes.

    >>> named(Step(name="pip_install", args={"packages": ["six>1", "-e .", "x @ git+https://x", "a[b]"]}))
    ['six>1', 'a[b]']
    """
    args = step.args
    if any(args.get(name) for name in _OTHERWISE):
        return []
    listed: list[str] = [*args.get("packages", ())]
    lines = str(args.get("requirements") or "").splitlines()
    listed += [line.partition(" #")[0].partition(" --hash")[0].strip(" \\") for line in lines]
    if step.name == "pip_install_from_pyproject":
        listed += _of_project(args)
    return [word for word in listed if _NAMED.fullmatch(word)]


def _of_project(args: Mapping[str, Any]) -> Iterable[str]:
    import tomllib

    try:
        project = tomllib.loads(str(args["pyproject"])).get("project", {})
        extras = args.get("optional_dependencies") or []
        groups = [project.get("optional-dependencies", {}).get(name, []) for name in extras]
        return [
            str(requirement)
            for group in (project.get("dependencies", []), *groups)
            for requirement in group
        ]
    except (ValueError, AttributeError, TypeError):
        return []  # the step itself says what is wrong


def _downloads(say: Say) -> Say:
    return lambda line: say(line) if line.startswith(_TOLD) else None
