"""Images with a root file system: one layer for each operation, each built once and shared."""

import asyncio
import dataclasses
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

from homeport.contract import codec, output
from homeport.contract.dataclass import dataclass
from homeport.contract.errors import ImageError
from homeport.contract.image import Image
from homeport.node.images import store
from homeport.node.images.bounds import Bounds
from homeport.node.images.made import Made
from homeport.node.images.owned import hands
from homeport.node.images.rooted import instructions, plan, work
from homeport.node.images.rooted.operations import Config, Op
from homeport.node.images.rooted.python import Inside
from homeport.node.images.rooted.site import Below
from homeport.node.images.rooted.work import Work
from homeport.node.images.store import Record, Say, Store
from homeport.node.images.supplied import Supplied
from homeport.node.images.wheels import Wheels

NEEDS_PYTHON = ("packages", "function")


@dataclass(slots=True)
class _Line:
    """An image, or a stage of a Dockerfile, as far as it is built."""

    below: Below = dataclasses.field(default_factory=Below)
    ingredients: tuple[
        object, ...
    ] = ()  # the values from which the key of its last layer is computed
    steps: tuple[str, ...] = ()
    key: str = ""
    mark: str = ""  # the line that reports the build of its next layer


class Roots:
    """Builds images with a root file system, and finds those that were built."""

    def __init__(self, layer_store: Store, wheels: Wheels, bounds: Bounds) -> None:
        self._store = layer_store
        self._wheels = wheels
        self._bounds = bounds
        self._looking = asyncio.Lock()  # for a Python: one at a time, each takes 0.1 s

    async def make(
        self, image: Image, source: Path, supplied: Supplied, say: Say, names: list[str]
    ) -> tuple[Path, Inside]:
        """Return the directory of the last layer, and the image's Python.

        `names` gets the directories that must not be pruned meanwhile. Raises `ImageError`.
        """
        main = line = _Line()
        stages: dict[str, _Line] = {}
        ops = [*plan.of(image, _ours())]
        count, number = sum(op.builds for op in ops), 0
        for op in ops:
            if op.kind == "STAGE":
                name, base = op.args["name"], op.args["base"]
                if not name:
                    line = main
                else:
                    line = stages[name] = dataclasses.replace(stages[base]) if base else _Line()
                continue
            line.ingredients = (
                *line.ingredients,
                instructions.key_parts(op, line.below.config),
                *supplied.key_parts(op.step),
            )
            if not op.builds:
                line.below = _changed(line.below, op.apply(line.below.config))
                continue
            number += 1
            line.mark = output.step(number, count, op.step.name)
            await self._next(op, line, stages, source, supplied, say, names)
        where = next((s.where for s in image.steps if s.name in plan.BASES), image.steps[0].where)
        below = await self._with_python(line.below, line.key, where)
        assert below.python is not None
        return self._store.root / line.key, below.python

    async def _next(
        self,
        op: Op,
        line: "_Line",
        stages: Mapping[str, "_Line"],
        source: Path,
        supplied: Supplied,
        say: Say,
        names: list[str],
    ) -> None:
        """Build an operation's layer, if it does not exist, and continue from it."""
        line.ingredients = (*line.ingredients, *(stages[name].key for name in op.stages))
        if op.args.get("force_build"):
            line.ingredients = (*line.ingredients, source.name)
        parent, line.key = line.key, plan.key_of(line.ingredients)
        line.steps = (*line.steps, op.title)
        lowers_of_stages = {name: stages[name].below.lowers for name in op.stages}
        await self._store.need(names, line.key)
        try:
            if (
                op.kind in NEEDS_PYTHON
                and line.below.python is None
                and not self._store.has(line.key)
            ):
                line.below = await self._with_python(line.below, parent, op.step.where)
            await self._layer(op, line, parent, lowers_of_stages, source, supplied, say)
        except ImageError as failure:
            # The build may have been another deploy's: the place is this script's.
            failure.where = op.step.where
            raise
        record = store.read(self._store.root / line.key)
        for name in record["lowers"]:
            await self._store.need(names, name)
        line.below = _below(record)

    def image(self, directory: Path, image: Image) -> Made:
        """Return the built image from which containers start."""
        record = store.read(directory)
        below = _below(record)
        config = below.config
        for op in plan.last_settings(plan.of(image, _ours())):
            config = op.apply(config)
        inside = _python(record, config)
        assert inside is not None
        names = below.lowers
        if (compiled := record.get("compiled", "")) and self._store.has(compiled):
            names = (*names, compiled)  # `compiled.py` has made it since
        return Made(
            key=directory.name,
            python=inside.path,
            directory=directory,
            runner_path=str(self._store.root / record["runner"]),
            lowers=tuple(str(self._store.root / name / "files") for name in names),
            environ=config.environ,
            workdir=config.workdir or None,
            entrypoint=config.entrypoint,
        )

    async def _layer(
        self,
        op: Op,
        line: "_Line",
        parent: str,
        lowers_of_stages: Mapping[str, tuple[str, ...]],
        source: Path,
        supplied: Supplied,
        say: Say,
    ) -> None:
        below, steps, mark = line.below, line.steps, line.mark

        async def build(tell: Say) -> None:
            tell(mark)
            directory = self._store.root / line.key
            after = await Work(
                op,
                below,
                directory,
                store=self._store,
                wheels=self._wheels,
                bounds=self._bounds,
                others=lowers_of_stages,
                source=source,
                supplied=supplied,
                say=tell,
            ).run()
            await store.finish(
                directory,
                parent=parent,
                steps=steps,
                lowers=after.lowers,
                config=codec.encode(after.config),
                pythons={},
                python_version="",
                runner="",
                compiled="",
                size_bytes=await self._size(directory, after),
            )

        await self._store.once(line.key, build, say)

    async def _size(self, directory: Path, after: Below) -> int:
        """Return the bytes of the layer; of a pulled image, of all its layers."""
        files = directory / "files"
        if files.is_dir():
            return (await hands.counts({"do": "measure", "directory": str(files)}))["bytes"]
        sizes = (store.read(self._store.root / name).get("size_bytes", 0) for name in after.lowers)
        return sum(sizes)

    async def _with_python(self, below: Below, key: str, where: str) -> Below:
        """Return the layers with the interpreter that they have; the search is done once."""
        if below.python is not None:
            return below
        directory = self._store.root / key
        async with self._looking:
            inside = _python(store.read(directory), below.config)
            if inside is None:  # no other build has searched meanwhile
                inside = await work.search(self._store, below, directory / "trial", where)
                pythons = {
                    **store.read(directory).get("pythons", {}),
                    below.config.environ["PATH"]: codec.encode(inside),
                }
                await self._store.note(directory, pythons=pythons, python_version=inside.version)
        return dataclasses.replace(below, python=inside)


def _changed(below: Below, config: Config) -> Below:
    same = config.environ.get("PATH") == below.config.environ.get("PATH")
    return Below(lowers=below.lowers, config=config, python=below.python if same else None)


def _below(record: Record) -> Below:
    config = codec.decode(Config, record["config"])
    return Below(lowers=_once(record["lowers"]), config=config, python=_python(record, config))


def _once(lowers: Sequence[str]) -> tuple[str, ...]:
    """Return layers without those that come again above: overlayfs takes no directory twice.

    The upper one shows and hides all that the lower one does. Steps that change nothing make the same empty layer.

    >>> _once(["a", "b", "c", "b"])
    ('a', 'c', 'b')
    """
    return tuple(reversed(dict.fromkeys(reversed(lowers))))


def _python(record: Record, config: Config) -> Inside | None:
    """Return the interpreter that these layers have for a PATH; None if no build has searched for it."""
    interpreter = record.get("pythons", {}).get(config.environ["PATH"])
    return codec.decode(Inside, interpreter) if interpreter else None


def _ours() -> str:
    return ".".join(platform.python_version_tuple()[:2])
