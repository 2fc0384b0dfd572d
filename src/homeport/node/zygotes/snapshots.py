"""Snapshots: zygotes with a class's state after its `enter(snap=True)` hooks, one for each pool."""

import asyncio
import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from homeport.contract import codec
from homeport.contract.container import Event, Launch, sent
from homeport.contract.traffic import PoolKey
from homeport.node.cells.sandbox import Handed
from homeport.node.zygotes.zygote import Gone, Zygote

TRIES = 3


class Unforkable(Exception):
    """Why a container has to start in a fresh interpreter"""


class Unstartable(Exception):
    """The state for a snapshot could not be made: the user's own failure"""

    def __init__(self, event: Event) -> None:
        super().__init__(event.reason)
        self.event = event


class Snapshots:
    """The snapshots of this node."""

    def __init__(self, root: Path) -> None:
        self._root = root  # the directory of the snapshots' /tmp directories
        self._tasks: dict[PoolKey, asyncio.Task[Zygote]] = {}
        self._impossible: dict[PoolKey, str] = {}  # pool -> why its state cannot be forked

    async def of(self, pool: PoolKey, make: Callable[[], Any]) -> Zygote:
        """Return the pool's snapshot; call `make` if there is none.

        Raises `Unforkable` if its state cannot be forked; later calls raise it too.
        """
        if why := self._impossible.get(pool):
            raise Unforkable(why)
        task = self._tasks.get(pool)
        if task is None or (task.done() and outcome(task) is None):
            task = self._tasks[pool] = asyncio.create_task(make())
        try:
            return await asyncio.shield(task)
        except Unforkable as why:
            self._impossible[pool] = str(why)
            raise

    async def make(
        self,
        parent: Zygote,
        launch: Launch,
        environ: dict[str, str],
        output: int,
        cell: Handed,
    ) -> tuple[Zygote, dict[str, Any]]:
        """Fork a snapshot from `parent`; return it with its first message: `ready`, or why it has ended."""
        directory = self._root / os.urandom(6).hex()
        directory.mkdir(parents=True, mode=0o700)
        order = dataclasses.replace(launch.order, devices=())
        launch_of_snapshot = Launch(order=order, runner_path=launch.runner_path, calls=launch.calls)
        # No GPU: a device that the snapshot has opened would belong to all its containers.
        variables = {**environ, "CUDA_VISIBLE_DEVICES": ""}
        if parent.sandbox is None:
            launch_of_snapshot = dataclasses.replace(launch_of_snapshot, tmp_dir=str(directory))
            variables["TMPDIR"] = str(directory)
        request = {"launch": sent(launch_of_snapshot), "environ": variables, **cell.request}
        zygote = parent.snapshot(request, output, directory, cell.descriptors)
        try:
            async with asyncio.timeout(launch.function.startup_timeout_s):
                word = await zygote.first_word()
        except TimeoutError:
            zygote.end()
            reason = f"did not become ready within {launch.function.startup_timeout_s:g} s"
            raise Unstartable(Event(kind="failed", reason=reason)) from None
        except Gone:
            zygote.end()
            raise Unforkable("it ended before its snapshot was made") from None
        except BaseException:
            zygote.end()
            raise
        if "ready" in word:
            zygote.made_for = launch.id
            zygote.start = codec.decode(Event, word["ready"]["start"])
        else:
            zygote.end()
        if "failed" in word:
            raise Unstartable(codec.decode(Event, word["failed"]))
        if "unsafe" in word:
            raise Unforkable(word["unsafe"]["reason"])
        return zygote, word

    def forget(self, pool: PoolKey) -> None:
        """End the pool's snapshot, because none of its containers will be started again."""
        self._impossible.pop(pool, None)
        if task := self._tasks.pop(pool, None):
            _drop(task)

    def let_go(self, zygote: Zygote) -> None:
        """Drop a snapshot; the next container of its pool makes another one."""
        self._tasks = {
            pool: task for pool, task in self._tasks.items() if outcome(task) is not zygote
        }

    def all(self) -> list[Zygote]:
        """Return the snapshots that run."""
        outcomes = [outcome(task) for task in self._tasks.values()]
        return [zygote for zygote in outcomes if zygote is not None]

    def close(self) -> None:
        """End all snapshots."""
        for task in self._tasks.values():
            _drop(task)


def outcome(task: "asyncio.Task[Zygote]") -> Zygote | None:
    """Return the zygote that the task has made, if it still runs."""
    if not task.done() or task.cancelled() or task.exception() is not None:
        return None
    return None if task.result().gone else task.result()


def _drop(task: "asyncio.Task[Zygote]") -> None:
    task.cancel()
    if (zygote := outcome(task)) is not None:
        zygote.end()
