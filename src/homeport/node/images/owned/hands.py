"""Calls `within.py`, in a process of its own: it needs one thread, and other ids than ours.

The variables of that process are ours; what a step sees goes by the order, which only this user can read.
"""

import contextlib
import functools
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from homeport.cell import identity
from homeport.contract.errors import ImageError, StorageError
from homeport.node.images import bounds as bounds_of
from homeport.node.images import command
from homeport.node.images.bounds import Bounds
from homeport.node.images.command import Done
from homeport.node.images.owned import within

WORDS = ("-E", "-P", "-m", within.__name__)
#: If the machine's memory runs out, the kernel kills the step first (man 5 proc_pid_oom_score_adj).
OOM_FIRST = ("/bin/sh", "-c", 'echo 1000 >/proc/self/oom_score_adj; exec "$@"', "homeport")


async def ask(
    order: Mapping[str, Any],
    say: Callable[[str], None] = lambda _line: None,
    *,
    before: Sequence[str] = (),
    bounds: Bounds | None = None,
) -> Done:
    """Run an order; `StorageError` for a full disk. `done.code` is the exit code of the step.

    `before` begins the command line, such as `nice`. A step that takes more than its `bounds` is killed, and
    `done.stopped` says why.
    """
    exceeded = None
    if bounds is not None:
        before = (*OOM_FIRST, *before)
        storage = Path(order["cell"]["storage"])
        exceeded = functools.partial(_exceeded, storage, bounds)
    with _ordered(order) as argv:
        done = await command.run(
            [*before, *argv], environ=_environ(), cwd=Path("/"), say=say, exceeded=exceeded
        )
    if done.code == within.FULL:
        raise _full()
    return done


async def _exceeded(storage: Path, bounds: Bounds, leader: int) -> str:
    return await bounds_of.exceeded(leader, storage, bounds)


async def counts(order: Mapping[str, Any]) -> dict[str, int]:
    """Run an order and return its answer; `ImageError` with the reason if it fails."""
    done = await ask(order)
    if done.code:
        raise ImageError(done.lines[-1] if done.lines else f"it ended with exit code {done.code}")
    answer: dict[str, int] = json.loads(done.lines[-1])
    return answer


def words(order: Mapping[str, Any]) -> list[str]:
    """Return the command line for an order; it works once, because the order's file is deleted."""
    return [sys.executable, *WORDS, _written(order)]


def empty(directory: Path) -> None:
    """Remove everything in a directory. Blocks."""
    with _ordered({"do": "empty", "directory": str(directory)}) as argv:
        subprocess.run(
            argv,
            env=_environ(),
            cwd="/",
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def mkdir(path: Path) -> None:
    """Make a directory for files of the cells' ids."""
    path.mkdir(mode=0o755)
    ids = identity.own()
    if ids is not None and os.geteuid() == 0:
        os.chown(path, ids.users[0][1], ids.groups[0][1])


@contextlib.contextmanager
def _ordered(order: Mapping[str, Any]) -> Iterator[list[str]]:
    """Return the command line for an order. An order that was not read is deleted, because a step's variables are in it."""
    argv = words(order)
    try:
        yield argv
    finally:
        Path(argv[-1]).unlink(missing_ok=True)


def _written(order: Mapping[str, Any]) -> str:
    descriptor, path = tempfile.mkstemp(prefix="homeport-order-")
    try:
        with os.fdopen(descriptor, "w") as file:
            json.dump(order, file)
    except BaseException:
        os.unlink(path)  # noqa: PTH108 - it is no Path
        raise
    return path


def _environ() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath)}


def _full() -> StorageError:
    return StorageError(
        "the disk is full",
        hint="`df -h` shows which one; `homeport image prune` removes what no app needs",
    )
