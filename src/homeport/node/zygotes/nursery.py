"""Zygotes: processes that have imported the modules of containers, and fork a container in a millisecond.

There is a *base zygote* for each image, with the modules that all containers need. Below it, each function has a
*function zygote*, with the function's variables and the modules that its script imported in an earlier container,
if these are more; revisions with the same image and variables share it. A pool with a memory snapshot has a zygote with the user's state. A
container is forked from the lowest of these. runner/zygotes/zygote.py is the other side; there, imported
modules are invisible until the script imports them (sdk/preload/shelf.py).
"""

import asyncio
import contextlib
import dataclasses
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from homeport.contract.container import Descriptors, Event, Launch, StartOrder, sent
from homeport.contract.sizes import MIB
from homeport.contract.traffic import PoolKey
from homeport.node.cells.sandbox import NOTHING, Handed, Sandbox
from homeport.node.cells.sandboxes import Cells
from homeport.node.images.made import Made
from homeport.node.zygotes import likeness
from homeport.node.zygotes.bases import Base, Bases
from homeport.node.zygotes.functions import Function, Functions
from homeport.node.zygotes.snapshots import Snapshots, Unforkable
from homeport.node.zygotes.zygote import Forked, Gone, Stale, Zygote, first_message

TRIES = 3  # a zygote that has just ended is replaced, and a stale one is not used
SPARES = 8  # how many zygotes keep a forked child ahead: the most recently used
MAX_TOLD = 10_000

log = logging.getLogger(__name__)


class Zygotes:
    """All zygotes of this node.

    One class, because starting, forking and ending zygotes change the same tree.
    """

    def __init__(
        self, root: Path, lib: Path, limit_mib: int, *, on_line: Callable[[StartOrder, str], None]
    ) -> None:
        self.cells: Cells | None = None  # set if containers are isolated
        self._limit_mib = limit_mib
        self._said = on_line
        self._bases = Bases(lib, sandbox=self._sandbox, used=self._used)
        self._functions = Functions(root, retire=self._retire)
        self._snapshots = Snapshots(lib.parent / "snapshots")
        self._retired: set[Zygote] = set()
        self._told: dict[
            tuple[str, ...], None
        ] = {}  # log lines that were written already, by function

    async def fork(
        self, launch: Launch, image: Made, environ: dict[str, str], descriptors: Descriptors
    ) -> Forked:
        """Fork a container's processes with these descriptors.

        Raises `Unforkable`, or `Unstartable` if the user's code failed before the snapshot.
        """
        if not self._limit_mib:
            raise Unforkable("forking is off")
        why = "its zygotes end before they have forked"
        for _ in range(TRIES):
            zygote = await self._parent(launch, image, environ, descriptors.output)
            try:
                forked = await self._forked(zygote, launch, environ, descriptors)
            except Gone:
                continue
            except Stale as stale:
                why = str(stale)
                self._end_stale(zygote, why)
                continue
            self._touch(zygote)
            is_own_snapshot = zygote.made_for == launch.id
            return dataclasses.replace(forked, snapshot=zygote.start if is_own_snapshot else None)
        raise Unforkable(why)

    async def fresh(
        self, launch: Launch, image: Made, environ: dict[str, str], descriptors: Descriptors
    ) -> Forked:
        """Start a container's processes in a cell, in an interpreter that has imported nothing yet.

        Zygotes make the cells, so the container is forked, and then starts a fresh interpreter. Raises
        `Unforkable` if no cell can be made.
        """
        for _ in range(TRIES):
            with contextlib.suppress(Gone):
                zygote = await self._bases.bare(image, environ)
                forked = await self._forked(zygote, launch, environ, descriptors, fresh=True)
                return dataclasses.replace(forked, origin="fresh")
        raise Unforkable("its zygotes end before they have forked")

    async def _forked(
        self,
        zygote: Zygote,
        launch: Launch,
        environ: dict[str, str],
        descriptors: Descriptors,
        *,
        fresh: bool = False,
    ) -> Forked:
        request: dict[str, Any] = {"environ": environ, "fresh": fresh}
        if self.cells is None or zygote.sandbox is None:
            return await zygote.fork({"launch": sent(launch), **request}, descriptors)
        request["launch"] = sent(self.cells.inside(launch))
        rooted = bool(zygote.sandbox.cell.layers)
        with self.cells.for_container(
            launch, descriptors.output, zygote.pid, rooted=rooted
        ) as cell:
            forked = await zygote.fork({**request, **cell.request}, descriptors, cell.descriptors)
        storage = zygote.sandbox.storage / forked.storage
        return dataclasses.replace(forked, storage=str(storage))

    def warm(self, image: Made, environ: dict[str, str]) -> None:
        """Start a base zygote before the first container is asked for."""
        if self._limit_mib:
            self._bases.warm(image, environ)

    def learn(self, pool: PoolKey, modules: tuple[str, ...]) -> None:
        """Record the modules that a ready container has imported."""
        if (function := self._functions.get(pool)) is not None:
            function.learned.add(modules)
            self._begin_function(function)

    def spoil(self, pool: PoolKey, event: Event) -> None:
        """Record preloaded modules that differ from the script's own imports."""
        if (function := self._functions.get(pool)) is not None:
            function.learned.spoil(pool.revision, event.modules, event.reason)
            self._functions.of(function.pools[pool], function.image, function.environ)

    def once(self, order: StartOrder, text: str) -> bool:
        """Return True if this text was not logged for the function before."""
        key = (order.pool.app, order.pool.function, order.pool.revision, text)
        if key in self._told:
            return False
        self._told[key] = None
        if len(self._told) > MAX_TOLD:
            del self._told[next(iter(self._told))]
        return True

    def _say_once(self, order: StartOrder, text: str) -> None:
        """Write a line to the app's log, unless it was written before."""
        if self.once(order, text):
            self._said(order, text)

    def forget(self, pool: PoolKey) -> None:
        """Release what was kept for the pool, because none of its containers will be started again."""
        self._snapshots.forget(pool)
        self._functions.forget(pool)

    def rest(self, unused_s: float) -> None:
        """End the zygotes that were not used for so long; each is started again when a container needs it."""
        now = time.monotonic()
        for zygote in self._all():
            if zygote.used_at <= now - unused_s:
                self._let_go(zygote)

    def close(self) -> None:
        """End all zygotes; their containers continue."""
        self._snapshots.close()
        for owner in self._owners():
            if owner.starting is not None:
                owner.starting.cancel()
            if owner.current is not None:
                owner.current.end()
        for zygote in self._retired:
            zygote.end()

    async def over(self) -> None:
        """Wait until nothing of the zygotes that `close` has ended is left, when their containers have ended too."""
        await self._bases.over()

    def pids(self) -> list[int]:
        """Return the process ids of the zygotes that are ready to fork."""
        return [zygote.pid for zygote in self._all()]

    # which one forks a container

    async def _parent(
        self, launch: Launch, image: Made, environ: dict[str, str], output: int
    ) -> Zygote:
        if launch.function.enable_memory_snapshot:
            try:
                return await self._snapshots.of(
                    launch.order.pool, lambda: self._snap(launch, image, environ, os.dup(output))
                )
            except Unforkable as why:
                text = f"no memory snapshot: {why}; each container starts on its own"
                self._say_once(launch.order, text)
        return await self._plain_parent(launch, image, environ)

    async def _plain_parent(self, launch: Launch, image: Made, environ: dict[str, str]) -> Zygote:
        """Return the function's zygote if there is one with these variables, else the base zygote."""
        function = self._functions.of(launch, image, environ)
        base = await self._bases.ready(image, environ)
        if why := function.learned.objection(launch.order.pool.revision, base.holds):
            raise Unforkable(why)
        if function.current is not None and not function.current.gone:
            return function.current
        return base

    # function zygotes

    def _begin_function(self, function: Function) -> None:
        """Start a function zygote with the wanted modules, if these are more than the base's."""
        if function.starting is not None and not function.starting.done():
            return
        if function.current is not None and function.current.gone:
            function.drop()
        modules = frozenset(function.learned.wanted(function.launch.order.pool.revision))
        if not modules <= function.tried:
            function.starting = asyncio.create_task(self._start_function(function), name="zygote")

    async def _start_function(self, function: Function) -> None:
        order, learned = function.launch.order, function.learned
        revision = order.pool.revision
        with contextlib.suppress(Unforkable):
            base = await self._bases.ready(function.image, function.environ)
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
            word = await first_message(zygote)
            if "stale" in word:
                self._end_stale(base, word["stale"])
            if failure := word.get("failure"):
                self._say_once(order, f"each container imports its modules again: {failure}")
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
            await self._used(zygote)

    def _sandbox(self, image: Made) -> Sandbox | None:
        return None if self.cells is None else self.cells.sandbox(image)

    def _handed(
        self, launch: Launch, parent: Zygote, *, writes: bool
    ) -> "contextlib.AbstractContextManager[Handed]":
        """Return the descriptors and mounts for the cell of a zygote below another one."""
        if self.cells is None or parent.sandbox is None:
            return contextlib.nullcontext(NOTHING)
        rooted = bool(parent.sandbox.cell.layers)
        return self.cells.for_zygote(launch, parent.pid, writes=writes, rooted=rooted)

    async def _snap(
        self, launch: Launch, image: Made, environ: dict[str, str], output: int
    ) -> Zygote:
        """Return a zygote with the user's state."""
        try:
            for _ in range(TRIES):
                parent = await self._plain_parent(launch, image, environ)
                with self._handed(launch, parent, writes=True) as cell:
                    inner = self.cells.inside(launch) if self.cells else launch
                    zygote, word = await self._snapshots.make(parent, inner, environ, output, cell)
                if "ready" in word:
                    await self._used(zygote)
                    return zygote
                if "stale" in word:
                    self._end_stale(parent, word["stale"])
                elif "again" in word:
                    event = Event(kind="again", **_of_again(word["again"]))
                    self.spoil(launch.order.pool, event)
        finally:
            os.close(output)
        raise Unforkable("a preloaded module has changed")

    # their ends

    def _end_stale(self, zygote: Zygote, reason: str) -> None:
        """Stop forking from a zygote with an imported file that has changed."""
        log.info("the zygote %d goes: %s", zygote.pid, reason)
        self._let_go(zygote)

    def _let_go(self, zygote: Zygote) -> None:
        for base in self._bases.all():
            if base.current is zygote:
                base.current = None
        for function in self._functions.all():
            if function.current is zygote:
                function.drop()
        self._snapshots.let_go(zygote)
        self._retire(zygote)

    def _retire(self, zygote: Zygote) -> None:
        self._retired = {retired for retired in self._retired if not retired.gone} | {zygote}
        zygote.retire()

    async def _used(self, zygote: Zygote) -> None:
        """Mark a zygote that has started as used now; end others if all together need too much memory."""
        if self.cells is not None and zygote.sandbox is not None:
            self.cells.worked()
        self._touch(zygote)
        await self._bound()

    def _touch(self, zygote: Zygote) -> None:
        """Mark it as used now; let only the last SPARES zygotes keep a child ahead."""
        zygote.touch()
        ahead = [other for other in self._all() if other.has_spare]
        for zygote_ahead in ahead[:-SPARES]:
            zygote_ahead.rest()

    def _owners(self) -> list[Base | Function]:
        return [*self._bases.all(), *self._functions.all()]

    def _all(self) -> list[Zygote]:
        """Return all zygotes, the least recently used first."""
        zygotes = [owner.current for owner in self._owners()]
        zygotes += self._snapshots.all()
        alive = [zygote for zygote in zygotes if zygote is not None and not zygote.gone]
        return sorted(alive, key=lambda zygote: zygote.used_at)

    async def _bound(self) -> None:
        """End the least recently used zygotes while all together need more memory than the limit."""
        zygotes = self._all()
        sizes = await asyncio.to_thread(lambda: [_private_mib(z.pid) for z in zygotes])
        total = sum(sizes)
        for zygote, size in list(zip(zygotes, sizes, strict=True))[:-1]:
            if total <= self._limit_mib:
                return
            total -= size
            log.info("the zygote %d ends: zygotes may use %d MiB", zygote.pid, self._limit_mib)
            self._let_go(zygote)


def _of_again(message: dict[str, Any]) -> dict[str, Any]:
    return {"reason": str(message["reason"]), "modules": tuple(message["modules"])}


def _private_mib(pid: int) -> float:
    with contextlib.suppress(psutil.Error):
        return float(psutil.Process(pid).memory_full_info().uss) / MIB
    return 0.0
