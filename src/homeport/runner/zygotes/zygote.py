"""A process that imports what containers need, then forks them.

It is `python -m homeport.runner` with HOMEPORT_ZYGOTE_FD. What it has imported stands on a shelf, where
the user's code does not see it (sdk/preload/shelf.py). The node has one *base zygote* for each environment,
which holds what all containers need. Below it are *function zygotes*, which hold what one function imports,
and *snapshots*, which hold the user's state.

Spoken with node/zygotes/nursery.py over the socket in HOMEPORT_ZYGOTE_FD (SOCK_SEQPACKET). Standard input
holds one line of JSON, `{"modules": […], "runner_path": ""}`. The node sends words with descriptors,
the zygote answers with JSON:

    <- {"ready": {"reads", "modules"}}     all is imported; the imports looked at these variables
    <- {"pid"} + a pidfd                   who it is; of a function zygote, again when it is another process
    <- {"ready": {"unsafe", "more"}}       of a function zygote: what cannot be preloaded, and how much was
    <- {"unsafe": {"name", "reason"}}      that import cannot be forked; this process ends
    <- {"again": {"reason", "modules"}}    of a snapshot: these were preloaded in vain; this process ends
    -> fork N + request, `Descriptors`     <- {"forked": init's pid, "storage"} + the pidfds of init and runner
    <- {"lost": reason}                    a child that was to become a container has ended before
    <- {"stale": reason}                   instead of `forked` or `ready`: what was imported is another now
    -> function + request, output, socket  a zygote of its own, on that socket
    -> snapshot + request, output, socket  the same, with the user's state
    -> rest                                keep no spare until the next fork
    -> retire                              no more forks; it ends when its containers have ended
    <- {"ended": [init's pid, exit code]}

A request is a file in memory with `{"launch", "environ"}`, for a function also with `modules` and `own`; with
`fresh`, the container begins in a fresh interpreter. In cells, N more descriptors come last (runner/celled.py). When the socket closes, the zygote ends and
its containers go on.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from homeport.contract import codec
from homeport.contract.container import Launch, StartOrder
from homeport.runner import celled, life, lines, tmp
from homeport.runner.zygotes import preloading
from homeport.runner.zygotes.again import SERVES, Beginning
from homeport.runner.zygotes.forking import Birth, Zygote
from homeport.sdk import alias
from homeport.sdk.preload import loaded
from homeport.sdk.preload.repeats import RESEEDED, reseed
from homeport.sdk.preload.shelf import Shelf

OURS = ("runner.container", "runner.webapp", "sdk.declare.loader")


def main() -> int:
    """The exit code of whichever container this process has become."""
    life.take_over()
    gc.disable()  # a page that a collection has emptied in part is one that children unshare
    control = socket.socket(fileno=life.keep(int(os.environ.pop("HOMEPORT_ZYGOTE_FD"))))
    told = json.loads(sys.stdin.readline())
    life.deafen()
    lines.install()
    life.ours_last(told["runner_path"])
    celled.begin()
    house = House(Shelf(), str(Path.cwd()))
    zygote = Zygote(control, house.shelf)
    zygote.tell_pid()
    _load_ours()
    _entitle(f"homeport.runner.zygotes.zygote {house.lib}")
    name, reason = preloading.load(house.shelf, told["modules"])
    if reason:
        zygote.tell({"unsafe": {"name": name, "reason": reason}})
        return 0
    tmp.possible()
    _calm()
    ready = {"reads": house.shelf.reads(), "modules": list(house.shelf.kept)}
    zygote.tell({"ready": ready})
    return _live(zygote.serve(), house)


def _load_ours() -> None:
    """The runner itself, and the SDK with every public name."""
    import homeport

    alias.install()
    codec.prepare(Launch)
    for name in OURS:
        importlib.import_module(f"homeport.{name}")
    for name in homeport.__all__:
        with contextlib.suppress(AttributeError):
            getattr(homeport, name)


@dataclass
class House:
    """What a zygote and its children share."""

    shelf: Shelf
    lib: str  # the folder that homeport is imported from
    source: str = ""  # of a function: its files, which are first on the path
    cwd: str = ""  # of a function
    service: Any = None  # of a snapshot: the user's state
    changed: dict[str, str | None] = field(
        default_factory=dict
    )  # variables that this state has set


def _live(birth: Birth, house: House) -> int:
    """Become a container, or a zygote of one function."""
    launch, asked = _become(birth, house)
    order = launch.order
    if birth.kind == "fork":
        life.confine(launch)
        return _be_container(birth, launch, house, fresh=bool(asked.get("fresh")))
    zygote = Zygote(socket.socket(fileno=birth.control), house.shelf, birth.written)
    zygote.tell_pid()
    if birth.kind == "snapshot":
        life.confine(launch)
    _settle(order, house)
    if stale := house.shelf.stale() or house.shelf.unlike(os.environ):
        zygote.tell({"stale": stale})
        return 0
    if birth.kind == "function":
        told = _preload(zygote, order, asked, house)
    else:
        told = _snap(zygote, order, house)
    zygote.tell(told)
    if "ready" not in told:
        return 0
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(null, stream)
    os.close(null)
    _calm()
    return _live(zygote.serve(), house)


def _be_container(birth: Birth, launch: Launch, house: House, *, fresh: bool) -> int:
    from homeport.runner import container

    assert birth.given is not None
    beginning = Beginning(launch, birth.given, house.lib)
    if fresh:
        birth.wait()
        beginning.anew()
    means = container.Means.of(birth.given)
    _settle(launch.order, house)

    def changed(reason: str, modules: Sequence[str]) -> None:
        if means.report.phase != SERVES:
            beginning.once_more(means.report, reason, modules)
        means.report.unlike(reason, tuple(modules))

    house.shelf.changed = changed
    lines.remember(keep=True)
    means.report.when_ready(lambda: lines.remember(keep=False))
    means.report.when_ready(beginning.forget)
    birth.wait()
    return container.run(launch.order, means, house.service)


def _settle(order: StartOrder, house: House) -> None:
    """Be where the function's files are."""
    if house.source != order.source:
        life.settle(order)
        house.source = order.source
    else:  # the same directory, but in this container's /tmp, if it is below that
        os.chdir(house.cwd)
    house.cwd = os.getcwd()  # noqa: PTH109 - pathlib costs 10 ms
    house.shelf.at_home(order.source)


def _preload(
    zygote: Zygote, order: StartOrder, asked: Mapping[str, Any], house: House
) -> dict[str, Any]:
    """What this function's script imports."""
    before = len(house.shelf.kept)
    own = set(asked["own"])
    if tmp.possible():  # then it is the same for all
        os.environ["TMPDIR"] = tmp.TMP
        own.discard("TMPDIR")
    unsafe = preloading.load_safe(
        house.shelf,
        asked["modules"],
        order.source,
        own,
        asked["avoid"],
        zygote.tell_pid,
    )
    return {"ready": {"unsafe": unsafe, "more": len(house.shelf.kept) - before}}


def _snap(zygote: Zygote, order: StartOrder, house: House) -> dict[str, Any]:
    """The state after `enter(snap=True)`."""
    from homeport.runner import container

    def changed(reason: str, modules: Sequence[str]) -> None:
        zygote.tell({"again": {"reason": reason, "modules": list(modules)}})
        os._exit(0)

    house.shelf.changed = changed
    watch, environ = loaded.Forkable(), dict(os.environ)
    house.service, told = container.snapshot(order)
    if house.service is not None and (reason := watch.left_behind()):
        return {"unsafe": {"name": order.function.qualname, "reason": reason}}
    house.cwd = os.getcwd()  # noqa: PTH109
    house.changed = {
        name: os.environ.get(name)
        for name in {*environ, *os.environ}
        if environ.get(name) != os.environ.get(name)
    }
    return told


def _become(birth: Birth, house: House) -> tuple[Launch, dict[str, Any]]:
    """A process of its own: output, environment, random numbers, temporary files."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    if birth.given is None:
        for stream in (1, 2):
            os.dup2(birth.output, stream)
        os.close(birth.output)
    with os.fdopen(birth.request, "rb") as request:
        request.seek(0)
        asked = json.load(request)
    if birth.kind == "fork":
        celled.enter(asked, birth.cell)
    if birth.kind != "function":
        gc.enable()
    os.environ.clear()
    os.environ.update(asked["environ"])
    for name, value in house.changed.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    _reseed()
    launch: Launch = codec.decode(Launch, asked["launch"])
    pool = launch.order.pool
    name = "homeport.runner" if birth.kind == "fork" else "homeport.runner.zygotes.zygote"
    _entitle(f"{name} {launch.id} {pool.app} {pool.function} {launch.tmp_dir}")
    return launch, asked


def _entitle(title: str) -> None:
    """What `ps` shows: over the arguments that the zygote was started with (proc(5), arg_start)."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    room = end - start - 1
    if room > 0:
        ctypes.memmove(start, title.encode()[:room].ljust(room + 1, b"\0"), room + 1)


def _reseed() -> None:
    """No two containers draw the same numbers (`random` sees to itself: os.register_at_fork)."""
    for name in RESEEDED:
        if (module := sys.modules.get(name)) is not None:
            reseed(name, module)
    tempfile.tempdir = None
    time.tzset()


def _calm() -> None:
    """What there is now stays as it is, so that its pages stay shared (`gc.freeze`)."""
    gc.freeze()
    loaded.mark()


if __name__ == "__main__":
    life.leave(main())
