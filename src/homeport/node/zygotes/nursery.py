"""Zygotes: processes that have imported what containers need, and fork them in a millisecond.

A *base zygote* for each environment holds what all containers need. Below it each function of a revision has
a *function zygote*, with its variables and what its script imported in an earlier container, where that
is more; and a pool that asked for a memory snapshot has one with the user's state. A container is
forked from the lowest one there is. runner/zygotes/zygote.py is the other side; there, what was imported is
invisible until the script imports it (sdk/preload/shelf.py).
"""

import asyncio
import contextlib
import dataclasses
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from homeport.contract.container import Descriptors, Event, Launch, StartOrder, sent
from homeport.contract.traffic import PoolKey
from homeport.node.cells.sandboxes import NOTHING, Cells, Handed
from homeport.node.images.made import Made
from homeport.node.zygotes import likeness
from homeport.node.zygotes.learned import BASE, Learned, tidy
from homeport.node.zygotes.snapshots import Snapshots, Unforkable
from homeport.node.zygotes.zygote import Forked, Gone, Stale, Zygote

TRIES = 3  # one that has just ended is replaced, and one that is stale is passed over
READY_S = 120.0  # what its imports may take
SPARES = 8  # zygotes that keep a child ahead: those that were used last
MAX_TOLD = 10_000

log = logging.getLogger(__name__)


@dataclasses.dataclass(slots=True)
class _Base:
    """The zygote of an environment, for containers with these variables."""

    made: Made
    environ: dict[str, str]
    current: Zygote | None = None
    starting: "asyncio.Task[None] | None" = None
    failure: str = ""
    unsafe: set[str] = dataclasses.field(default_factory=set)
    bare: bool = False  # it imports nothing ahead: for containers that begin in a fresh interpreter


@dataclasses.dataclass(slots=True)
class _Function:
    """The zygote of one function of a revision."""

    launch: Launch  # of no container
    made: Made
    environ: dict[str, str]
    learned: Learned
    current: Zygote | None = None
    starting: "asyncio.Task[None] | None" = None
    pools: set[PoolKey] = dataclasses.field(default_factory=set)
    tried: frozenset[str] = frozenset()  # what the last one was told to import


class Zygotes:
    """Every zygote of this node.

    One class, because starting, forking and ending zygotes change the same tree.
    """

    def __init__(
        self, root: Path, lib: Path, limit_mib: int, *, said: Callable[[StartOrder, str], None]
    ) -> None:
        self.cells: Cells | None = None  # containers are isolated
        self._root = root  # where `Learned` is kept
        self._bares: dict[str, _Base] = {}  # environment -> for fresh interpreters in cells
        self._lib = lib
        self._limit_mib = limit_mib
        self._said = said
        self._reads: dict[
            str, set[str]
        ] = {}  # environment -> variables that the base's imports read
        self._bases: dict[str, _Base] = {}
        self._functions: dict[tuple[str, ...], _Function] = {}
        self._snapshots = Snapshots(root.parent / "run" / "snapshots")
        self._retired: set[Zygote] = set()
        self._told: dict[tuple[str, ...], None] = {}  # what was said of which function
        tidy(root)

    async def fork(
        self, launch: Launch, made: Made, environ: dict[str, str], given: Descriptors
    ) -> Forked:
        """A container's processes, which get these descriptors.

        Raises `Unforkable`, or `Unstartable` where the user's code failed before the snapshot.
        """
        if not self._limit_mib:
            raise Unforkable("forking is off")
        why = "its zygotes end before they have forked"
        for _ in range(TRIES):
            zygote = await self._parent(launch, made, environ, given.output)
            try:
                forked = await self._forked(zygote, launch, environ, given)
            except Gone:
                continue
            except Stale as stale:
                why = str(stale)
                self._end_stale(zygote, why)
                continue
            self._touch(zygote)
            mine = zygote.made_for == launch.id
            return dataclasses.replace(forked, snapshot=zygote.start if mine else None)
        raise Unforkable(why)

    async def fresh(
        self, launch: Launch, made: Made, environ: dict[str, str], given: Descriptors
    ) -> Forked:
        """A container's processes in a cell, in an interpreter that has imported nothing yet.

        Cells are made by zygotes, so a container is forked in any case, and then begins anew. Raises `Unforkable`
        where there can be no cell.
        """
        for _ in range(TRIES):
            with contextlib.suppress(Gone):
                zygote = await self._bare(made, environ)
                forked = await self._forked(zygote, launch, environ, given, fresh=True)
                return dataclasses.replace(forked, origin="fresh")
        raise Unforkable("its zygotes end before they have forked")

    async def _forked(
        self,
        zygote: Zygote,
        launch: Launch,
        environ: dict[str, str],
        given: Descriptors,
        *,
        fresh: bool = False,
    ) -> Forked:
        request: dict[str, Any] = {"environ": environ, "fresh": fresh}
        if self.cells is None or zygote.sandbox is None:
            return await zygote.fork({"launch": sent(launch), **request}, given)
        request["launch"] = sent(self.cells.inside(launch))
        with self.cells.for_container(launch, given.output, zygote.pid) as cell:
            forked = await zygote.fork({**request, **cell.request}, given, cell.descriptors)
        storage = zygote.sandbox.storage / forked.storage
        return dataclasses.replace(forked, storage=str(storage))

    def warm(self, made: Made, environ: dict[str, str]) -> None:
        """Have a base zygote at hand when the first container is asked for."""
        if self._limit_mib:
            self._begin_base(self._base(made, environ))

    def learn(self, order: StartOrder, made: Made, modules: tuple[str, ...]) -> None:
        """These were imported by a container that became ready."""
        function = self._functions.get(likeness.identity(order, made))
        if function is not None:
            function.learned.add(modules)
            self._begin_function(function)

    def spoil(self, order: StartOrder, made: Made, event: Event) -> None:
        """These modules were preloaded in vain: the container's script would have got others."""
        function = self._functions.get(likeness.identity(order, made))
        if function is not None:
            function.learned.spoil(order.pool.revision, event.modules, event.reason)
            self._end_function(function)

    def once(self, order: StartOrder, text: str) -> bool:
        """Whether this is to be said of the function: it was not said before."""
        key = (order.pool.app, order.pool.function, order.pool.revision, text)
        if key in self._told:
            return False
        self._told[key] = None
        if len(self._told) > MAX_TOLD:
            del self._told[next(iter(self._told))]
        return True

    def forget(self, pool: PoolKey) -> None:
        """No container of the pool will be started again."""
        self._snapshots.forget(pool)
        for key, function in list(self._functions.items()):
            if pool in function.pools:
                function.pools.discard(pool)
                if not function.pools:
                    self._end_function(function)
                    del self._functions[key]

    def close(self) -> None:
        """End every zygote; what they have forked goes on."""
        self._snapshots.close()
        for each in self._each():
            if each.starting is not None:
                each.starting.cancel()
            if each.current is not None:
                each.current.end()
        for zygote in self._retired:
            zygote.end()

    def pids(self) -> list[int]:
        """Of the zygotes that are ready to fork."""
        return [zygote.pid for zygote in self._all()]

    # which one forks a container

    async def _parent(
        self, launch: Launch, made: Made, environ: dict[str, str], output: int
    ) -> Zygote:
        if launch.function.enable_memory_snapshot:
            try:
                return await self._snapshots.of(
                    launch.order.pool, lambda: self._snap(launch, made, environ, os.dup(output))
                )
            except Unforkable as why:
                text = f"no memory snapshot: {why}; each container starts on its own"
                if self.once(launch.order, text):
                    self._said(launch.order, text)
        return await self._plain_parent(launch, made, environ)

    async def _plain_parent(self, launch: Launch, made: Made, environ: dict[str, str]) -> Zygote:
        """The function's zygote if there is one with these variables, else that of the environment."""
        function = self._function(launch, made, environ)
        base = await self._ready_base(made, environ)
        if why := function.learned.objection(launch.order.pool.revision, base.holds):
            raise Unforkable(why)
        if function.current is not None and not function.current.gone:
            return function.current
        return base

    def _function(self, launch: Launch, made: Made, environ: dict[str, str]) -> _Function:
        order = launch.order
        key = likeness.identity(order, made)
        shared = likeness.shared(order.function, environ)
        function = self._functions.get(key)
        if function is None:
            learned = Learned.of(self._root, made.key, order.pool.app, order.pool.function)
            function = self._functions[key] = _Function(
                likeness.nobody(launch), made, shared, learned
            )
        if function.environ != shared:
            # A secret has changed: what was imported may have read it.
            self._end_function(function)
            function.environ = shared
        function.pools.add(order.pool)
        return function

    # base zygotes

    def _base(self, made: Made, environ: dict[str, str]) -> _Base:
        """That one whose modules saw the variables that this container has."""
        reads = self._reads.setdefault(made.key, set())
        key = likeness.key(made, environ, reads)
        if key not in self._bases:
            self._bases[key] = _Base(made, likeness.plain(environ, reads))
        return self._bases[key]

    async def _ready_base(self, made: Made, environ: dict[str, str]) -> Zygote:
        """A zygote for any container with these variables; `Unforkable` where there can be none."""
        while True:
            base = self._base(made, environ)
            if base.current is not None and base.current.gone:
                base.current = None
            self._begin_base(base)
            if base.current is None:
                assert base.starting is not None
                await asyncio.shield(base.starting)
            if base.current is None:
                raise Unforkable(base.failure or "the zygote has ended")
            if self._base(made, environ) is base:  # else its imports looked at what differs here
                return base.current

    async def _bare(self, made: Made, environ: dict[str, str]) -> Zygote:
        """A zygote for containers that begin anew; `Unforkable` where there can be none."""
        for base in self._bases.values():
            if base.made.key == made.key and base.current is not None and not base.current.gone:
                return base.current
        environ = likeness.plain(environ, ())
        base = self._bares.setdefault(made.key, _Base(made, environ, bare=True))
        if base.current is not None and base.current.gone:
            base.current = None
        self._begin_base(base)
        if base.current is None:
            assert base.starting is not None
            await asyncio.shield(base.starting)
        if base.current is None:
            raise Unforkable(base.failure or "the zygote has ended")
        return base.current

    def _begin_base(self, base: _Base) -> None:
        under_way = base.starting is not None and not base.starting.done()
        if base.current is None and not under_way:
            base.starting = asyncio.create_task(self._start_base(base), name="zygote")

    async def _start_base(self, base: _Base) -> None:
        """Start it, once more without each module that turns out to be unsafe."""
        for _ in range(len(BASE) + 1):
            modules = [name for name in BASE if name not in base.unsafe and not base.bare]
            zygote = Zygote.spawn(
                base.made.python,
                self._lib,
                base.environ,
                {"modules": modules, "runner_path": base.made.runner_path},
                None if self.cells is None else self.cells.sandbox(base.made),
            )
            word = await self._first_word(zygote)
            if "ready" in word:
                break
            base.failure = word.get("failure", "")
            if "unsafe" not in word:
                return
            log.info("`%s` is not preloaded: %s", *word["unsafe"].values())
            base.unsafe.add(word["unsafe"]["name"])
        else:
            return
        zygote.holds = frozenset(word["ready"]["modules"])
        base.current = zygote
        if base.bare:
            zygote.rest()
            return
        self._reads[base.made.key] |= set(word["ready"]["reads"])
        self._bases = {
            likeness.key(b.made, b.environ, self._reads[b.made.key]): b
            for b in self._bases.values()
        }
        self._touch(zygote)
        await self._bound()

    async def _first_word(self, zygote: Zygote) -> dict[str, Any]:
        """What it says once it has imported everything, or `failure`; then it has ended."""
        try:
            async with asyncio.timeout(READY_S):
                word = await zygote.first_word()
        except (Gone, TimeoutError):
            zygote.end()
            failure = f"the zygote did not start: {zygote.last_words()}"
            log.warning("%s", failure)
            return {"failure": failure}
        except BaseException:
            zygote.end()
            raise
        if "ready" not in word:
            zygote.end()
        return word

    # function zygotes

    def _begin_function(self, function: _Function) -> None:
        """Have one that imports what is wanted now, if that is more than all containers have."""
        if function.starting is not None and not function.starting.done():
            return
        if function.current is not None and function.current.gone:
            function.current, function.tried = None, frozenset()
        wanted = frozenset(function.learned.wanted(function.launch.order.pool.revision))
        if not wanted <= function.tried:
            function.starting = asyncio.create_task(self._start_function(function), name="zygote")

    async def _start_function(self, function: _Function) -> None:
        order, learned = function.launch.order, function.learned
        revision = order.pool.revision
        with contextlib.suppress(Unforkable):
            base = await self._ready_base(function.made, function.environ)
            modules = learned.wanted(revision)
            if learned.objection(revision, base.holds) or base.holds.issuperset(modules):
                return
            function.tried = frozenset(modules)
            request = {
                "launch": sent(
                    self.cells.inside(function.launch) if self.cells else function.launch
                ),
                "environ": function.environ,
                "modules": modules,
                "avoid": learned.avoid(revision),
                "own": likeness.own(order.function),
            }
            try:
                with self._handed(function.launch, base, writes=False) as cell:
                    zygote = base.function({**request, **cell.request}, cell.descriptors)
            except Gone:
                return
            word = await self._first_word(zygote)
            if "stale" in word:
                self._end_stale(base, word["stale"])
            if "ready" not in word:
                return
            for name, reason in word["ready"]["unsafe"].items():
                if self.once(order, f"{name} {reason}"):
                    log.info(
                        "`%s` is not preloaded for %s %s: %s",
                        *(name, order.pool.app, order.pool.function, reason),
                    )
            if not word["ready"]["more"]:
                zygote.end()
                return
            before, function.current = function.current, zygote
            if before is not None:
                self._retire(before)
            self._touch(zygote)
            await self._bound()

    def _handed(
        self, launch: Launch, parent: Zygote, *, writes: bool
    ) -> "contextlib.AbstractContextManager[Handed]":
        """What a zygote below another one gets for its cell."""
        if self.cells is None or parent.sandbox is None:
            return contextlib.nullcontext(NOTHING)
        return self.cells.for_zygote(launch, parent.pid, writes=writes)

    def _end_function(self, function: _Function) -> None:
        if function.starting is not None:
            function.starting.cancel()
        if function.current is not None:
            self._retire(function.current)
        function.current, function.starting, function.tried = None, None, frozenset()

    async def _snap(
        self, launch: Launch, made: Made, environ: dict[str, str], output: int
    ) -> Zygote:
        """A zygote with the user's state."""
        try:
            for _ in range(TRIES):
                parent = await self._plain_parent(launch, made, environ)
                with self._handed(launch, parent, writes=True) as cell:
                    inner = self.cells.inside(launch) if self.cells else launch
                    zygote, word = await self._snapshots.make(parent, inner, environ, output, cell)
                if "ready" in word:
                    self._touch(zygote)
                    await self._bound()
                    return zygote
                if "stale" in word:
                    self._end_stale(parent, word["stale"])
                elif "again" in word:
                    told = Event(kind="again", **_of_again(word["again"]))
                    self.spoil(launch.order, made, told)
        finally:
            os.close(output)
        raise Unforkable("what was preloaded has changed")

    # their ends

    def _end_stale(self, zygote: Zygote, reason: str) -> None:
        """What it has imported is another now: nothing is forked from it any more."""
        log.info("the zygote %d goes: %s", zygote.pid, reason)
        self._let_go(zygote)

    def _let_go(self, zygote: Zygote) -> None:
        for base in (*self._bases.values(), *self._bares.values()):
            if base.current is zygote:
                base.current = None
        for function in self._functions.values():
            if function.current is zygote:
                function.current, function.tried = None, frozenset()
        self._snapshots.let_go(zygote)
        self._retire(zygote)

    def _retire(self, zygote: Zygote) -> None:
        self._retired = {each for each in self._retired if not each.gone} | {zygote}
        zygote.retire()

    def _touch(self, zygote: Zygote) -> None:
        """It was used just now; only so many keep a child ahead."""
        zygote.touch()
        ahead = [each for each in self._all() if each.has_spare]
        for each in ahead[:-SPARES]:
            each.rest()

    def _each(self) -> list[_Base | _Function]:
        return [*self._bases.values(), *self._bares.values(), *self._functions.values()]

    def _all(self) -> list[Zygote]:
        """The least recently used one first."""
        found = [each.current for each in self._each()]
        found += self._snapshots.all()
        alive = [zygote for zygote in found if zygote is not None and not zygote.gone]
        return sorted(alive, key=lambda zygote: zygote.used_at)

    async def _bound(self) -> None:
        """Let the least recently used ones go while all of them need more than they may."""
        zygotes = self._all()
        sizes = await asyncio.to_thread(lambda: [_private_mib(z.pid) for z in zygotes])
        total = sum(sizes)
        for zygote, size in list(zip(zygotes, sizes, strict=True))[:-1]:
            if total <= self._limit_mib:
                return
            total -= size
            log.info("the zygote %d goes: %d MiB are kept at most", zygote.pid, self._limit_mib)
            self._let_go(zygote)


def _of_again(told: dict[str, Any]) -> dict[str, Any]:
    return {"reason": str(told["reason"]), "modules": tuple(told["modules"])}


def _private_mib(pid: int) -> float:
    with contextlib.suppress(psutil.Error):
        return float(psutil.Process(pid).memory_full_info().uss) / 1024**2
    return 0.0
