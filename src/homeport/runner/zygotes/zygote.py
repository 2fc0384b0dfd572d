"""A process that imports what containers need, then forks them.

It is `python -m homeport.runner` with HOMEPORT_ZYGOTE_FD. Its imported modules are on a shelf, where the
user's code does not see them (sdk/preload/shelf.py). The node has one *base zygote* for each set of packages,
with the modules that all containers need. Below it are *function zygotes*, with the modules that one
function imports, and *snapshots*, with the user's state.

The protocol with node/zygotes/nursery.py, over the socket in HOMEPORT_ZYGOTE_FD (SOCK_SEQPACKET): standard
input has one line of JSON, `{"modules": […], "apart": false, "runner_path": ""}`. The node sends commands with descriptors,
the zygote answers with JSON:

    <- {"ready": {"reads", "modules"}}     all is imported; the imports read these variables
    <- {"pid"} + a pidfd                   the zygote's process; a function zygote sends it again if that changes
    <- {"ready": {"unsafe", "more"}}       from a function zygote: the unsafe modules, and how many were preloaded
    <- {"unsafe": {"name", "reason"}}      this import cannot be forked; this process ends. No name: one of all
    <- {"again": {"reason", "modules"}}    from a snapshot: these preloaded modules differ; this process ends
    -> fork N + request, `Descriptors`     <- {"forked": init's pid, "storage"} + the pidfds of init and runner
    <- {"lost": reason}                    a child ended before it became a container
    <- {"stale": reason}                   instead of `forked` or `ready`: an imported file has changed
    -> function + request, output, socket  a zygote of its own, on that socket
    -> snapshot + request, output, socket  the same, with the user's state
    -> rest                                keep no spare until the next fork
    -> retire                              no more forks; it ends when its containers have ended
    <- {"ended": [init's pid, exit code]}

A request is a file in memory with `{"launch", "environ"}`, for a function also with `modules` and `own`; with
`fresh`, the container begins in a fresh interpreter. In cells, N more descriptors come last
(runner/celled.py). When the socket closes, the zygote ends, and its containers continue.
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
from dataclasses import field
from pathlib import Path
from typing import Any

from homeport.contract import codec
from homeport.contract import dataclass as classes
from homeport.contract.container import Launch, StartOrder
from homeport.contract.dataclass import dataclass
from homeport.runner import celled, lines, setup, tmp
from homeport.runner.zygotes import preloading
from homeport.runner.zygotes.again import SERVES, Beginning
from homeport.runner.zygotes.child import Child
from homeport.runner.zygotes.forking import Zygote
from homeport.sdk import alias
from homeport.sdk.preload import loaded
from homeport.sdk.preload.repeats import RESEEDED, reseed
from homeport.sdk.preload.shelf import Shelf

OURS = (
    *("runner.container", "runner.webapp", "runner.servers.calls"),
    *("sdk.declare.loader", "sdk.objects.forms"),
)


def main() -> int:
    """Run as a zygote; return the exit code of the container that this process has become."""
    setup.take_over()
    gc.disable()  # after a collection, new objects go into half-empty pages, which each child must copy
    control = socket.socket(fileno=setup.keep(int(os.environ.pop("HOMEPORT_ZYGOTE_FD"))))
    settings = json.loads(sys.stdin.readline())
    setup.deafen()
    lines.install()
    setup.ours_last(settings["runner_path"])
    celled.begin()
    house = House(Shelf(), str(Path.cwd()))
    zygote = Zygote(control, house.shelf)
    zygote.tell_pid()
    _load_ours()
    _entitle(f"homeport.runner.zygotes.zygote {house.lib}")
    name, reason = preloading.load(house.shelf, settings["modules"], apart=settings["apart"])
    if reason:
        zygote.tell({"unsafe": {"name": name, "reason": reason}})
        return 0
    tmp.possible()
    _calm()
    ready = {"reads": house.shelf.reads(), "modules": list(house.shelf.records)}
    zygote.tell({"ready": ready})
    return _live(zygote.serve(), house)


def _load_ours() -> None:
    """Import the runner itself, and the SDK with every public name."""
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
    """The state that a zygote and its children share."""

    shelf: Shelf
    lib: str  # the folder that homeport is imported from
    source: str = ""  # for a function: the directory of its files, first on `sys.path`
    revision: str = ""  # for a function: whose files were there when the modules were imported
    cwd: str = ""  # for a function: its working directory
    service: Any = None  # for a snapshot: the user's state
    changed: dict[str, str | None] = field(
        default_factory=dict
    )  # variables that this state has set


def _live(child: Child, house: House) -> int:
    """Become a container, or a zygote of one function."""
    launch, request = _become(child, house)
    order = launch.order
    if child.kind == "fork":
        setup.confine(launch)
        return _be_container(child, launch, house, fresh=bool(request.get("fresh")))
    zygote = Zygote(socket.socket(fileno=child.control), house.shelf, child.written)
    zygote.tell_pid()
    if child.kind == "snapshot":
        setup.confine(launch)
    _settle(order, house)
    if stale := house.shelf.stale() or house.shelf.unlike(os.environ):
        zygote.tell({"stale": stale})
        return 0
    if child.kind == "function":
        answer = _preload(zygote, order, request, house)
    else:
        answer = _snap(zygote, order, house)
    zygote.tell(answer)
    if "ready" not in answer:
        return 0
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(null, stream)
    os.close(null)
    _calm()
    return _live(zygote.serve(), house)


def _be_container(child: Child, launch: Launch, house: House, *, fresh: bool) -> int:
    from homeport.runner import container

    assert child.handed_over is not None
    beginning = Beginning(launch, child.handed_over, house.lib)
    if fresh:
        child.wait()
        beginning.start_again()
    links = container.Links.of(child.handed_over)
    _settle(launch.order, house)
    setup.reach(launch)

    def changed(reason: str, modules: Sequence[str]) -> None:
        if links.report.phase != SERVES:
            beginning.once_more(links.report, reason, modules)
        links.report.unlike(reason, tuple(modules))

    house.shelf.changed = changed
    lines.remember(keep=True)
    links.report.when_ready(lambda: lines.remember(keep=False))
    links.report.when_ready(beginning.forget)
    child.wait()
    return container.run(launch.order, links, house.service)


def _settle(order: StartOrder, house: House) -> None:
    """Set `sys.path` and the working directory to the function's files."""
    if house.revision not in ("", order.pool.revision):
        house.shelf.moves(house.source)
    house.revision = order.pool.revision
    if house.source != order.source:
        if house.source:
            sys.path.remove(house.source)
        setup.settle(order)
        house.source = order.source
    else:  # the same directory, but in this container's /tmp, if it is below that
        os.chdir(house.cwd)
    house.cwd = os.getcwd()  # noqa: PTH109 - pathlib costs 10 ms
    house.shelf.at_home(order.source)


def _preload(
    zygote: Zygote, order: StartOrder, request: Mapping[str, Any], house: House
) -> dict[str, Any]:
    """Preload the modules that this function's script imports."""
    before = len(house.shelf.records)
    own = set(request["own"])
    if tmp.possible():  # then it is the same for all
        os.environ["TMPDIR"] = tmp.TMP
        own.discard("TMPDIR")
    unsafe = preloading.load_safe(
        house.shelf,
        request["modules"],
        order.source,
        own,
        request["avoid"],
        zygote.tell_pid,
    )
    return {"ready": {"unsafe": unsafe, "more": len(house.shelf.records) - before}}


def _snap(zygote: Zygote, order: StartOrder, house: House) -> dict[str, Any]:
    """Return the answer to the node after `enter(snap=True)`, from whose state containers are forked."""
    from homeport.runner import container

    def changed(reason: str, modules: Sequence[str]) -> None:
        zygote.tell({"again": {"reason": reason, "modules": list(modules)}})
        os._exit(0)

    house.shelf.changed = changed
    watch, environ = loaded.Forkable(), dict(os.environ)
    house.service, result = container.snapshot(order)
    if house.service is not None and (reason := watch.left_behind()):
        return {"unsafe": {"name": order.function.qualname, "reason": reason}}
    house.cwd = os.getcwd()  # noqa: PTH109
    house.changed = {
        name: os.environ.get(name)
        for name in {*environ, *os.environ}
        if environ.get(name) != os.environ.get(name)
    }
    return result


def _become(child: Child, house: House) -> tuple[Launch, dict[str, Any]]:
    """Give the child its own output, environment variables, random numbers and temporary files."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    if child.handed_over is None:
        for stream in (1, 2):
            os.dup2(child.output, stream)
        os.close(child.output)
    with os.fdopen(child.request, "rb") as request:
        request.seek(0)
        request_data = json.load(request)
    if child.kind == "fork":
        celled.enter(request_data, child.cell)
    setup.look_again()
    if child.kind != "function":
        gc.enable()
    os.environ.clear()
    os.environ.update(request_data["environ"])
    for name, value in house.changed.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    _reseed()
    launch: Launch = codec.decode(Launch, request_data["launch"])
    pool = launch.order.pool
    name = "homeport.runner" if child.kind == "fork" else "homeport.runner.zygotes.zygote"
    _entitle(f"{name} {launch.id} {pool.app} {pool.function} {launch.tmp_dir}")
    return launch, request_data


def _entitle(title: str) -> None:
    """Set the title that `ps` shows, in place of the zygote's arguments (proc(5), arg_start)."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    room = end - start - 1
    if room > 0:
        ctypes.memmove(start, title.encode()[:room].ljust(room + 1, b"\0"), room + 1)


def _reseed() -> None:
    """Seed random numbers again, so that no two containers draw the same (`random` does it itself)."""
    for name in RESEEDED:
        if (module := sys.modules.get(name)) is not None:
            reseed(name, module)
    tempfile.tempdir = None
    time.tzset()


def _calm() -> None:
    """Exclude all present objects from garbage collection, so that their pages stay shared (`gc.freeze`)."""
    classes.complete()  # else each container would compile the methods that it needs
    gc.freeze()
    loaded.mark()


if __name__ == "__main__":
    setup.leave(main())
