"""Zygotes: processes that have imported what containers need, and fork them in a millisecond.

One for each environment, and one for each pool that asked for a memory snapshot (runner/zygote.py is
the other side). What to import is learned from containers that became ready, and remembered with
what turned out not to survive a fork. A zygote that has learned more replaces the one before it.
"""

import asyncio
import contextlib
import dataclasses
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path

import psutil

from homeport.contract import codec
from homeport.contract.container import ContainerSpec, Descriptors, Event
from homeport.node.environments import Made
from homeport.node.learned import BASE, Learned
from homeport.node.process import INHERITED
from homeport.node.zygote import Forked, Gone, Zygote

TRIES = 2  # one that has just ended is replaced
READY_S = 120.0  # what its imports may take
#: Read by C code, which nobody sees reading.
SILENTLY_READ = ("OMP_", "OPENBLAS_", "MKL_", "KMP_", "BLIS_", "NUMEXPR_", "LD_", "MALLOC_", "CUDA_", "NVIDIA_", "PYTHON")  # fmt: skip
#: Ours, and different in each container; the zygote's child starts over with them.
OWN = ("HOMEPORT_", "MODAL_", "TMPDIR", "TMP", "TEMP", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")  # fmt: skip
#: What a zygote has in any case; of the other variables, only those that its imports look at.
PLAIN = (*INHERITED, "PATH", "VIRTUAL_ENV", "PYTHONUNBUFFERED")

log = logging.getLogger(__name__)


class Unforkable(Exception):
    """Why a container has to start in a fresh interpreter"""


class Unstartable(Exception):
    """The state for a snapshot could not be made: the user's own failure"""

    def __init__(self, event: Event) -> None:
        super().__init__(event.reason)
        self.event = event


@dataclasses.dataclass(slots=True)
class _Nest:
    """An environment's zygote, and the one that will replace it."""

    made: Made
    environ: dict[str, str]
    learned: Learned
    current: Zygote | None = None
    starting: "asyncio.Task[None] | None" = None
    failure: str = ""


class Zygotes:
    """Every zygote of this node."""

    def __init__(
        self, root: Path, lib: Path, limit_mib: int, *, said: Callable[[ContainerSpec, str], None]
    ) -> None:
        self._root = root  # where `Learned` is kept
        self._lib = lib
        self._limit_mib = limit_mib
        self._said = said
        self._nests: dict[str, _Nest] = {}
        self._learned: dict[str, Learned] = {}
        self._snapshots: dict[str, asyncio.Task[Zygote]] = {}  # by pool
        self._unsnappable: set[str] = set()
        self._retired: set[Zygote] = set()

    async def fork(
        self,
        spec: ContainerSpec,
        made: Made,
        environ: dict[str, str],
        given: Descriptors,
    ) -> Forked:
        """A container's processes, which get these descriptors.

        Raises `Unforkable`, or `Unstartable` where the user's code failed before the snapshot.
        """
        request = {"spec": codec.encode(spec), "environ": environ}
        for _ in range(TRIES):
            with contextlib.suppress(Gone):
                zygote = await self._parent(spec, made, environ, given.output)
                forked = await zygote.fork(request, given)
                mine = zygote.made_for == spec.id
                return dataclasses.replace(forked, snapshot=zygote.start if mine else None)
        raise Unforkable("its zygotes end before they have forked")

    def warm(self, made: Made, environ: dict[str, str]) -> None:
        """Have a zygote at hand when the first container is asked for."""
        self._begin(self._nest(made, environ))

    def learn(self, made: Made, environ: dict[str, str], modules: tuple[str, ...]) -> None:
        """These were imported by a container that became ready."""
        nest = self._nest(made, environ)
        if nest.learned.add(modules):
            self._begin(nest)

    def forget(self, pool: str) -> None:
        """No container of the pool will be started again."""
        self._unsnappable.discard(pool)
        if task := self._snapshots.pop(pool, None):
            _drop(task)

    def close(self) -> None:
        """End every zygote; what they have forked goes on."""
        for task in self._snapshots.values():
            _drop(task)
        for nest in self._nests.values():
            if nest.starting is not None:
                nest.starting.cancel()
            if nest.current is not None:
                nest.current.end()
        for zygote in self._retired:
            zygote.end()

    def pids(self) -> list[int]:
        """Of the zygotes that are ready to fork."""
        return [zygote.pid for zygote in self._all()]

    def _nest(self, made: Made, environ: dict[str, str]) -> _Nest:
        """The zygote whose modules saw the variables that this container has."""
        learned = self._learned.get(made.key)
        if learned is None:
            learned = Learned.load(self._root / f"{made.key}.json")
            self._learned[made.key] = learned
        key = _key(made, environ, learned)
        if key not in self._nests:
            plain = {k: v for k, v in environ.items() if k in PLAIN or _matters(k, learned)}
            self._nests[key] = _Nest(made, plain, learned)
        return self._nests[key]

    async def _parent(
        self, spec: ContainerSpec, made: Made, environ: dict[str, str], output: int
    ) -> Zygote:
        if spec.enable_memory_snapshot and spec.pool not in self._unsnappable:
            snapshot = await self._snapshot(spec, made, environ, output)
            if snapshot is not None:
                return snapshot
        return await self._for(made, environ)

    async def _for(self, made: Made, environ: dict[str, str]) -> Zygote:
        """A zygote for a container; `Unforkable` where there can be none."""
        while True:
            nest = self._nest(made, environ)
            zygote = await self._ready(nest)
            if self._nest(made, environ) is nest:  # else its imports looked at what differs here
                return zygote

    async def _ready(self, nest: _Nest) -> Zygote:
        if nest.current is not None and nest.current.gone:
            nest.current = None
        self._begin(nest)
        if nest.current is None:
            assert nest.starting is not None
            await asyncio.shield(nest.starting)
        if nest.current is None:
            raise Unforkable(nest.failure or "the zygote has ended")
        nest.current.touch()
        return nest.current

    def _begin(self, nest: _Nest) -> None:
        """Start a zygote that imports what is wanted now, unless there is one or it is under way."""
        if nest.starting is not None and not nest.starting.done():
            return
        if nest.current is not None and set(nest.learned.wanted()) <= nest.current.asked:
            return
        nest.starting = asyncio.create_task(self._renew(nest), name="zygote")

    async def _renew(self, nest: _Nest) -> None:
        """Replace the nest's zygote until one has everything that is wanted."""
        if nest.current is None:
            # What every container needs comes first, so that nobody waits for the rest.
            await self._hatch(nest, BASE)
            if nest.current is not None and len(nest.learned.wanted()) > len(BASE):
                nest.starting = asyncio.create_task(self._renew(nest), name="zygote")
            return
        while nest.current is not None:
            wanted = nest.learned.wanted()
            if set(wanted) <= nest.current.asked or not await self._hatch(nest, wanted):
                break

    async def _hatch(self, nest: _Nest, modules: tuple[str, ...]) -> bool:
        """Whether there is a new zygote, or a reason to try once more without one module."""
        zygote = Zygote.spawn(
            nest.made.python,
            self._lib,
            nest.environ,
            {"modules": modules, "runner_path": nest.made.runner_path},
        )
        zygote.asked = set(modules)
        try:
            async with asyncio.timeout(READY_S):
                told = await zygote.first_word()
        except (Gone, TimeoutError):
            zygote.end()
            nest.failure = f"the zygote did not start: {zygote.last_words()}"
            log.warning("%s", nest.failure)
            return False
        except BaseException:
            zygote.end()
            raise
        if unsafe := told.get("unsafe"):
            zygote.end()
            log.info("`%s` is not preloaded: %s", unsafe["name"], unsafe["reason"])
            if unsafe["name"] in BASE:
                nest.failure = f"`{unsafe['name']}` cannot be preloaded: {unsafe['reason']}"
                return False
            nest.learned.unsafe[unsafe["name"]] = unsafe["reason"]
            nest.learned.save()
            return True
        nest.learned.reads |= set(told["ready"]["reads"])
        nest.learned.save()
        self._nests = {_key(n.made, n.environ, n.learned): n for n in self._nests.values()}
        before, nest.current = nest.current, zygote
        if before is not None:
            self._retire(before)
        await self._bound()
        return True

    async def _snapshot(
        self, spec: ContainerSpec, made: Made, environ: dict[str, str], output: int
    ) -> Zygote | None:
        """The pool's own zygote; None where its state cannot be forked."""
        task = self._snapshots.get(spec.pool)
        if (
            task is not None
            and task.done()
            and (task.cancelled() or task.exception() or task.result().gone)
        ):
            task = None
        if task is None:
            task = asyncio.create_task(self._snap(spec, made, environ, os.dup(output)))
            self._snapshots[spec.pool] = task
        try:
            zygote = await asyncio.shield(task)
        except Unforkable as why:
            if spec.pool not in self._unsnappable:
                self._unsnappable.add(spec.pool)
                self._said(spec, f"no memory snapshot: {why}; each container starts on its own")
            return None
        zygote.touch()
        return zygote

    async def _snap(
        self, spec: ContainerSpec, made: Made, environ: dict[str, str], output: int
    ) -> Zygote:
        try:
            parent = await self._for(made, environ)
            directory = self._root.parent / "run" / "snapshots" / os.urandom(6).hex()
            directory.mkdir(parents=True, mode=0o700)
            told = dataclasses.replace(
                spec, tmp_dir=str(directory), devices=(), cgroup="", cores=()
            )
            request = {
                "spec": codec.encode(told),
                # A device that the snapshot has seen would be all its containers'.
                "environ": {**environ, "TMPDIR": str(directory), "CUDA_VISIBLE_DEVICES": ""},
            }
            zygote = parent.snapshot(request, output, directory)
        finally:
            os.close(output)
        try:
            async with asyncio.timeout(spec.startup_timeout_s):
                word = await zygote.first_word()
        except TimeoutError:
            zygote.end()
            reason = f"did not become ready within {spec.startup_timeout_s:g} s"
            raise Unstartable(Event(kind="failed", reason=reason)) from None
        except Gone:
            zygote.end()
            raise Unforkable("it ended before its snapshot was made") from None
        except BaseException:
            zygote.end()
            raise
        if failed := word.get("failed"):
            zygote.end()
            raise Unstartable(codec.decode(Event, failed))
        if unsafe := word.get("unsafe"):
            zygote.end()
            raise Unforkable(unsafe["reason"])
        zygote.made_for, zygote.start = spec.id, codec.decode(Event, word["ready"]["start"])
        await self._bound()
        return zygote

    def _retire(self, zygote: Zygote) -> None:
        self._retired = {each for each in self._retired if not each.gone} | {zygote}
        zygote.retire()

    def _all(self) -> list[Zygote]:
        """The least recently used one first."""
        found = [n.current for n in self._nests.values() if n.current and not n.current.gone]
        found += [z for task in self._snapshots.values() if (z := _outcome(task)) is not None]
        return sorted((z for z in found if not z.gone), key=lambda z: z.used_at)

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
            for nest in self._nests.values():
                if nest.current is zygote:
                    nest.current = None
            self._retire(zygote)


def _matters(name: str, learned: Learned) -> bool:
    if name.startswith(OWN):
        return False
    return name in learned.reads or name.startswith(SILENTLY_READ)


def _key(made: Made, environ: dict[str, str], learned: Learned) -> str:
    """The same for containers that one zygote can fork."""
    seen = sorted((k, v) for k, v in environ.items() if _matters(k, learned))
    return json.dumps([made.key, seen])


def _outcome(task: "asyncio.Task[Zygote]") -> Zygote | None:
    """The zygote, if the task has made one."""
    if not task.done() or task.cancelled() or task.exception() is not None:
        return None
    return task.result()


def _drop(task: "asyncio.Task[Zygote]") -> None:
    task.cancel()
    if (zygote := _outcome(task)) is not None:
        zygote.end()


def _private_mib(pid: int) -> float:
    with contextlib.suppress(psutil.Error):
        return float(psutil.Process(pid).memory_full_info().uss) / 1024**2
    return 0.0
