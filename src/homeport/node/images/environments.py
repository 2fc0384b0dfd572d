"""Builds images layer by layer, each layer once (`store.py`).

An image without file-system steps has a directory `venv`, made by uv from a Python of this machine
(`builder.py`). It is built at its final path, because a venv has absolute paths. Any other image has a root
file system of its own (`rooted/`).
"""

import asyncio
import contextlib
import dataclasses
import hashlib
import re
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from homeport.contract import output
from homeport.contract.errors import ImageError
from homeport.contract.image import ROOTED_STEPS, Environment, Image
from homeport.contract.supplies import Supplies
from homeport.node.images import bounds as bounds_of
from homeport.node.images import builder, layers, store, uv
from homeport.node.images.bounds import Bounds
from homeport.node.images.builder import Builder
from homeport.node.images.compiled import Compiler
from homeport.node.images.layers import Layer
from homeport.node.images.made import Made
from homeport.node.images.rooted import plan
from homeport.node.images.rooted import python as rooted_python
from homeport.node.images.rooted.roots import Roots
from homeport.node.images.sealed import Sealed
from homeport.node.images.store import Say, Store
from homeport.node.images.supplied import Supplied, salt
from homeport.node.images.uv import Python
from homeport.node.images.wheels import Wheels

OURS_FROM = (3, 11)
PYTHONS = "pythons"  # in the home: the interpreters that uv has downloaded, also those of root file systems
#: The runner's packages. Version bounds come from homeport's own metadata if the interpreter is new enough for homeport.
RUNNERS = (
    *("uvicorn", "httptools", "uvloop", "websockets", "cheroot", "a2wsgi", "cloudpickle"),
    "aiohttp",  # Modal's containers have it, so scripts import it at their top without naming it in the image
)


class Environments:
    """All built images of this machine."""

    def __init__(self, root: Path, *, rooted: bool = False, bounds: Bounds | None = None) -> None:
        """`bounds` are the limits of a step, if they are not the usual ones."""
        self._root = root
        self._bounds = bounds or bounds_of.usual()
        # There are cells: steps run in them, and containers can start in a root file system.
        self.is_rooted = rooted
        self.has_overlay = True  # cells may have overlayfs
        self.volumes = root.parent / "volumes"  # where volumes are; the agent sets it
        self._store = Store(root)
        self._wheels = Wheels(root.parent)
        self._roots = Roots(self._store, self._wheels, self._bounds)
        self._compiler = Compiler(self._store)
        self._image_made: dict[str, Made] = {}  # by the image's key
        self._pythons: dict[
            str, tuple[int, Python]
        ] = {}  # wanted version -> the interpreter's date, itself

    def sweep(self) -> None:
        """Delete incomplete layers of interrupted builds, and the cache of older versions, which steps could write."""
        self._store.sweep()
        if (old := self._root.parent / "cache" / "uv").is_dir():
            store.discard(old)

    async def make(self, image: Image, source: str, supplies: Supplies, say: Say) -> None:
        """Build the image's missing layers; raises `ImageError`."""
        home = self._root.parent
        supplied = Supplied(
            supplies=supplies,
            volumes=self.volumes,
            salt=await asyncio.to_thread(salt, home / "cache" / "salt"),
        )
        if image.is_rooted:
            plan.check(image)
            self._check_isolated(image)
            self._image_made[image.key] = await self._rooted(image, Path(source), supplied, say)
            return
        layers.check(image)
        if image.entrypoint:
            self._check_isolated(image)
        if image.has_environment:
            self._image_made[image.key] = await self._environment(
                image, Path(source), supplied, say
            )

    def all(self) -> Collection[Environment]:
        """Return the built layers, the newest first."""
        users = self._store.users()
        environments = [
            dataclasses.replace(
                _environment(directory, record, store.used_at(directory)),
                used_by=users[directory.name],
            )
            for directory, record in self._store.records()
        ]
        return sorted(environments, key=lambda environment: -environment.created_at)

    async def log(self, key: str) -> str | None:
        """Return the output of a layer's build; None if there is no layer with this key."""
        return await asyncio.to_thread(self._store.log, key)

    async def prune(self, keep: Collection[Image]) -> Collection[Environment]:
        """Delete the layers that none of these images needs; return them."""
        deleted = await self._store.prune({image.key for image in keep})
        return [_environment(*removed) for removed in deleted]

    def compile(self, image: Image, source: str) -> None:
        """Compile the image's packages and the files of a source tree in the background."""
        with contextlib.suppress(ImageError):  # it was pruned in this moment
            self._compiler.begin(self.of(image), source)

    def is_compiled(self, image: Made) -> bool:
        """Return whether the packages that its containers import are compiled."""
        return not image.runner_path or self._compiler.has(
            image
        )  # those beside homeport are not of an image

    async def close(self) -> None:
        """Compile no more."""
        await self._compiler.close()

    def of(self, image: Image) -> Made:
        """Return the built image from which its containers start."""
        if not image.has_environment:
            return Made(key="default", python=sys.executable, directory=self._root / "default")
        image_made = self._image_made.get(image.key)
        if (
            image_made is None
            or not self._store.has(image_made.directory.name)
            or self._is_older(image_made)
        ):
            image_made = self._image_made[image.key] = self._built_before(image)
        return image_made

    def _is_older(self, image: Made) -> bool:
        """Return whether its layer of compiled files was made since."""
        name = f"pyc-{image.directory.name}"
        return bool(image.lowers) and self._store.has(name) and not image.has_layer(name)

    # building

    async def _environment(self, image: Image, source: Path, supplied: Supplied, say: Say) -> Made:
        base = next((step for step in image.steps if step.name == layers.BASE.name), layers.BASE)
        python = await self._python(base.args.get("python_version"), base.where, say)
        wanted_layers = layers.of(image, python.version, source.name, supplied.key_parts)
        runner = _runner_name(python.minor)
        async with self._store.needed([*(layer.key for layer in wanted_layers), runner]):
            for number, layer in enumerate(wanted_layers, 1):
                mark = output.step(number, len(wanted_layers), layer.step.name)
                await self._layer(layer, python, supplied, say, mark)
            await self._runner(python.minor, python.path, (), say)
            last = self._root / wanted_layers[-1].key
            await self._store.used(last, image.key)
        return _image_made(last, self._root / runner, image)

    async def _rooted(self, image: Image, source: Path, supplied: Supplied, say: Say) -> Made:
        names: list[str] = []
        async with self._store.needed(names):
            last, python = await self._roots.make(image, source, supplied, say, names)
            platform = ("--python-platform", rooted_python.WHEELS, "--python-version", python.minor)
            runner = await self._runner(python.minor, sys.executable, platform, say, names)
            await self._store.note(last, runner=runner)
            await self._store.used(last, image.key)
        return self._roots.image(last, image)

    async def _python(self, version: str | None, where: str, say: Say) -> Python:
        """Find the interpreter; search again only if the last one has changed.

        If this machine does not have that version, uv downloads it into the home.
        """
        date, python = self._pythons.get(version or "", (0, None))
        if python is None or _date(python.path) != date:
            python = await uv.python(version, where)
            if python is None:
                python = await self._downloaded(str(version), where, say)
            self._pythons[version or ""] = _date(python.path), python
        return python

    async def _downloaded(self, version: str, where: str, say: Say) -> Python:
        say(f"debian_slim: this machine has no Python {version}, so uv downloads it")
        home, why = await rooted_python.standalone(version, self._root.parent / PYTHONS, where)
        if home is None:
            raise ImageError(
                f"there is no Python {version} here, and uv cannot download it: {why}",
                where=where,
                hint=f"`uv python install {version}`; "
                "`UV_PYTHON_INSTALL_MIRROR` says where uv downloads it from",
            )
        return await uv.looked_at(str(home / "bin" / "python3"))

    async def _layer(
        self, layer: Layer, python: Python, supplied: Supplied, say: Say, mark: str
    ) -> None:
        async def build(tell: Say) -> None:
            tell(mark)
            directory = self._root / layer.key
            if layer.parent:
                await asyncio.to_thread(builder.clone, self._root / layer.parent, directory)
            sealed = Sealed(wheels=self._wheels, overlay=self.has_overlay, bounds=self._bounds)
            await Builder(
                layer,
                directory,
                python,
                supplied=supplied,
                say=tell,
                sealed=sealed if self.is_rooted else None,
            ).run()
            parent_root = self._root / layer.parent if layer.parent else None
            await store.finish(
                directory,
                parent=layer.parent,
                steps=layer.steps,
                python_version=python.version,
                size_bytes=await asyncio.to_thread(builder.size, directory, parent_root),
                runner=_runner_name(python.minor),
            )

        try:
            await self._store.once(layer.key, build, say)
        except ImageError as failure:
            # Another deploy may have run the build: name the line of this script.
            failure.where = layer.step.where
            raise

    async def _runner(
        self,
        minor: str,
        python: str,
        words: tuple[str, ...],
        say: Say,
        names: list[str] | None = None,
    ) -> str:
        """Install the runner's packages for a Python of this version; return the name of their directory."""
        name = _runner_name(minor, words)
        if names is not None:
            await self._store.need(names, name)

        async def build(tell: Say) -> None:
            target = self._root / name
            arguments = (
                "pip",
                "install",
                "--quiet",
                "--python",
                python,
                "--target",
                str(target),
                *words,
            )
            result = await uv.run(*arguments, *_runner_requirements(minor), say=tell)
            if result.code:
                raise ImageError(
                    f"the runner cannot be installed for Python {minor}: "
                    f"{uv.in_one_line(result.lines)}",
                    traceback=result.text,
                )
            await store.complete(target, {"runner_for": minor})

        await self._store.once(name, build, say)
        return name

    def _check_isolated(self, image: Image) -> None:
        """Raise for a root file system where no container can start in one."""
        if self.is_rooted:
            return
        names = ROOTED_STEPS if image.is_rooted else {"entrypoint"}
        step = next(step for step in image.steps if step.name in names)
        feature = (
            "isolation" if step.name == "entrypoint" else "a root file system of the image's own"
        )
        raise ImageError(
            f"`{step.name}` needs {feature}, and containers are not isolated here",
            where=step.where,
            hint="start the server with HOMEPORT_ISOLATION=auto; `homeport doctor` says what it needs",
        )

    def _built_before(self, image: Image) -> Made:
        """Return an image that an earlier server has built; `ImageError` if it was deleted."""
        built = self._store.of(image.key)
        if built is not None and self._store.has(built[1]["runner"]):
            directory, record = built
            if "lowers" in record:
                self._check_isolated(image)
                return self._roots.image(directory, image)
            return _image_made(directory, self._root / record["runner"], image)
        raise ImageError("the environment of this image was deleted", hint="deploy the app again")


def _image_made(directory: Path, runner: Path, image: Image) -> Made:
    return Made(
        key=directory.name,
        python=str(directory / "venv" / "bin" / "python"),
        directory=directory,
        runner_path=str(runner),
        entrypoint=image.entrypoint,
    )


def _environment(directory: Path, record: Mapping[str, Any], used_at: float) -> Environment:
    return Environment(
        key=directory.name,
        steps=tuple(record["steps"]),
        python_version=record["python_version"],
        size_bytes=record["size_bytes"],
        created_at=record["created_at"],
        used_at=used_at,
    )


def _date(path: str) -> int:
    try:
        return Path(path).stat().st_mtime_ns
    except OSError:
        return 0


def _runner_requirements(minor: str) -> list[str]:
    from importlib import metadata  # the first zygote does not wait for it

    declared = metadata.requires("homeport") or []
    requirements = sorted(text for text in declared if text.startswith(RUNNERS) and ";" not in text)
    if tuple(int(part) for part in minor.split(".")) < OURS_FROM:
        # It needs whichever was the newest for it.
        return [re.split(r"[^\w.-]", text)[0] for text in requirements]
    return requirements


def _runner_name(minor: str, words: tuple[str, ...] = ()) -> str:
    digest = hashlib.sha256("\n".join([*_runner_requirements(minor), *words]).encode()).hexdigest()
    return f"runner-{minor}-{digest[:8]}"
