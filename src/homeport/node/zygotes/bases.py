"""Base zygotes: one for each image, and for each set of values of the variables that its imports read.

`bare` ones have imported nothing: containers that begin in a fresh interpreter are forked from them, because only a
zygote makes cells.
"""

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from homeport.contract.dataclass import dataclass
from homeport.node.cells.sandbox import Sandbox
from homeport.node.images.made import Made
from homeport.node.zygotes import likeness
from homeport.node.zygotes.learned import BASE
from homeport.node.zygotes.snapshots import Unforkable
from homeport.node.zygotes.zygote import Zygote, first_message

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Base:
    """The base zygote of an image, for containers with these variables."""

    image: Made
    environ: dict[str, str]
    current: Zygote | None = None
    starting: "asyncio.Task[None] | None" = None
    failure: str = ""
    unsafe: set[str] = dataclasses.field(default_factory=set)
    #: Its modules are imported one after the other, to learn which one is unsafe.
    apart: bool = False
    bare: bool = False  # it imports nothing ahead: for containers that begin in a fresh interpreter


class Bases:
    """All base zygotes of this node; each is started when it is asked for."""

    def __init__(
        self,
        lib: Path,
        *,
        sandbox: Callable[[Made], Sandbox | None],  # the cell for an image's zygote
        used: Callable[[Zygote], Awaitable[None]],  # called when one has started
    ) -> None:
        self._lib, self._sandbox, self._used = lib, sandbox, used
        self._alike: dict[str, Base] = {}  # by image and variables
        self._bares: dict[str, Base] = {}  # by image
        self._reads: dict[str, set[str]] = {}  # image -> variables that the base's imports read
        self._spawned: set[Zygote] = set()  # those that are not over

    def all(self) -> list[Base]:
        """Return every base, whether its zygote runs or not."""
        return [*self._alike.values(), *self._bares.values()]

    def warm(self, image: Made, environ: dict[str, str]) -> None:
        """Start a base zygote before the first container is asked for."""
        base = self._of(image, environ)
        if base.current is not None:
            base.current.touch()
        self._begin(base)

    def _of(self, image: Made, environ: dict[str, str]) -> Base:
        """Return the base whose imports read the same values as this container's variables."""
        reads = self._reads.setdefault(image.key, set())
        key = likeness.key(image, environ, reads)
        if key not in self._alike:
            self._alike[key] = Base(image, likeness.plain(environ, reads))
        self._alike[
            key
        ].image = image  # for its next zygote: a layer of compiled files may have come
        return self._alike[key]

    async def over(self) -> None:
        """End every zygote, also one whose base was replaced, and wait until their processes are over."""
        for zygote in self._spawned:
            zygote.end()
        await asyncio.gather(*(zygote.over() for zygote in self._spawned))

    async def ready(self, image: Made, environ: dict[str, str]) -> Zygote:
        """Return a base zygote for containers with these variables; `Unforkable` if none can be made."""
        while True:
            base = self._of(image, environ)
            zygote = await self._started(base)
            if self._of(image, environ) is base:  # else its imports read a variable that differs
                return zygote

    async def bare(self, image: Made, environ: dict[str, str]) -> Zygote:
        """Return a zygote for containers with a fresh interpreter; `Unforkable` if none can be made."""
        for base in self._alike.values():
            if base.image.key == image.key and base.current is not None and not base.current.gone:
                return base.current
        environ = likeness.plain(environ, ())
        base = self._bares.setdefault(image.key, Base(image, environ, bare=True))
        return await self._started(base)

    async def _started(self, base: Base) -> Zygote:
        """Return its zygote once it runs; `Unforkable` if none can be made."""
        if base.current is not None and base.current.gone:
            base.current = None
        self._begin(base)
        if base.current is None:
            assert base.starting is not None
            await asyncio.shield(base.starting)
        if base.current is None:
            raise Unforkable(base.failure or "the zygote has ended")
        return base.current

    def _begin(self, base: Base) -> None:
        under_way = base.starting is not None and not base.starting.done()
        if base.current is None and not under_way:
            base.starting = asyncio.create_task(self._start(base), name="zygote")

    async def _start(self, base: Base) -> None:
        """Start it; start it again without each module that is unsafe."""
        for _ in range(len(BASE) + 2):
            modules = [name for name in BASE if name not in base.unsafe and not base.bare]
            zygote = Zygote.spawn(
                base.image.python,
                self._lib,
                base.environ,
                {"modules": modules, "apart": base.apart, "runner_path": base.image.runner_path},
                self._sandbox(base.image),
            )
            self._spawned = {before for before in self._spawned if not before.is_over} | {zygote}
            word = await first_message(zygote)
            if "ready" in word:
                break
            base.failure = word.get("failure", "")
            if "unsafe" not in word:
                return
            if name := word["unsafe"]["name"]:
                log.info("`%s` is not preloaded: %s", name, word["unsafe"]["reason"])
                base.unsafe.add(name)
            base.apart = True
        else:
            return
        zygote.holds = frozenset(word["ready"]["modules"])
        base.current = zygote
        if base.bare:
            zygote.rest()
            return
        self._reads[base.image.key] |= set(word["ready"]["reads"])
        self._alike = {
            likeness.key(b.image, b.environ, self._reads[b.image.key]): b
            for b in self._alike.values()
        }
        await self._used(zygote)
