"""`python -m homeport.runner.zygote`: imports what containers need, then forks them.

Spoken with node/zygotes.py over the socket in HOMEPORT_ZYGOTE_FD (SOCK_SEQPACKET). Standard input
holds one line of JSON, `{"modules": […], "runner_path": ""}`. The node sends words with descriptors,
the zygote answers with JSON:

    <- {"ready": {"reads"}}                all is imported; the imports looked at these variables
    <- {"pid"}                             of a snapshot, before the user's code runs
    <- {"unsafe": {"name", "reason"}}      that import cannot be forked; this process ends
    -> fork + request, `Descriptors`       <- {"forked": init's pid} + the pidfds of init and runner
    -> snapshot + request, output, socket  a zygote of its own, on that socket
    -> retire                              no more forks; it ends when its containers have ended
    <- {"ended": [init's pid, exit code]}

A request is a file in memory with `{"spec", "environ"}`. When the socket closes, the zygote ends and
its containers go on.
"""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homeport.contract import codec
from homeport.contract.container import ContainerSpec, Descriptors
from homeport.runner import init, life, lines, tmp
from homeport.sdk import alias, preload

MAX_MESSAGE = 64 * 1024
MAX_DESCRIPTORS = 8
SPARE_S = 0.05  # idle for that long, it forks the next child ahead
OURS = ("runner.container", "runner.webapp", "sdk.loader")


@dataclass
class Birth:
    """In the child: who it is to become."""

    request: int
    given: Descriptors | None  # of a container
    output: int = -1  # of a snapshot: where it prints
    control: int = -1  # of a snapshot: the socket to be a zygote on


@dataclass
class Spare:
    """An init and a runner that wait to be somebody: forked before anybody asks."""

    init: int
    to_init: socket.socket
    to_runner: socket.socket


class Zygote:
    """Forks on demand, and tells how its children ended."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._children: set[int] = set()
        self._retired = False
        self._spare: Spare | None = None
        self._selector = selectors.DefaultSelector()
        self._pipe = (-1, -1)  # written to when a child has ended

    def tell(self, message: dict[str, Any], descriptors: tuple[int, ...] = ()) -> bool:
        """One message; False when the node has gone."""
        try:
            socket.send_fds(self._control, [json.dumps(message).encode()], list(descriptors))
        except OSError:
            return False
        return True

    def serve(self) -> Birth:
        """Return in each child; never in the zygote itself, which ends here."""
        woken, wake = self._pipe = os.pipe()
        for end in self._pipe:
            os.set_blocking(end, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self._selector.register(self._control, selectors.EVENT_READ)
        self._selector.register(woken, selectors.EVENT_READ)
        while not (self._retired and not self._children):
            idle = self._spare is None and not self._retired
            ready = self._selector.select(SPARE_S if idle else None)
            birth = None if ready or not idle else self._have_spare()
            asked = {key.fileobj for key, _ in ready}
            if woken in asked:
                os.read(woken, 4096)
                self._reap()
            if self._control in asked:  # last, as a child has nothing more to do here
                birth = self._obey()
            if birth is not None:
                return birth
        os._exit(0)

    def _obey(self) -> Birth | None:
        message, descriptors, _, _ = socket.recv_fds(self._control, MAX_MESSAGE, MAX_DESCRIPTORS)
        if not message:
            os._exit(0)
        kind = message.decode()
        if kind == "retire":
            self._retired = True
            self._drop_spare()
            return None
        if kind == "snapshot":
            return self._snap(descriptors)
        while True:
            birth = None if self._spare else self._have_spare()
            if birth is not None or self._use_spare(descriptors):
                break
        if birth is None:
            _close(descriptors)
        return birth

    def _snap(self, descriptors: list[int]) -> Birth | None:
        child = os.fork()
        if child == 0:
            os.setsid()
            if os.fork():
                os._exit(0)  # nobody waits for it: its socket tells when it has gone
            self._leave()
            request, output, control = descriptors
            return Birth(request, None, life.keep(output), life.keep(control))
        _close(descriptors)
        os.waitpid(child, 0)
        return None

    def _have_spare(self) -> Birth | None:
        """One more spare; a birth in its runner, and only there, once somebody needs it."""
        kind = socket.AF_UNIX, socket.SOCK_SEQPACKET
        (to_init, inits), (to_runner, runners) = socket.socketpair(*kind), socket.socketpair(*kind)
        child = os.fork()
        if child:
            inits.close()
            runners.close()
            self._spare = Spare(child, to_init, to_runner)
            return None
        to_init.close()
        to_runner.close()
        self._control.close()  # init's too: the node must see the zygote's end
        init.ahead(inits, runners)
        self._leave()
        message, descriptors, _, _ = socket.recv_fds(runners, 1, MAX_DESCRIPTORS)
        runners.close()
        if not message:
            os._exit(0)
        request, *given = descriptors
        for descriptor in descriptors:
            life.keep(descriptor)
        return Birth(request, Descriptors.of(given))

    def _use_spare(self, descriptors: list[int]) -> bool:
        """Whether the spare has become a container: somebody may have killed it."""
        spare, self._spare = self._spare, None
        assert spare is not None
        runner: list[int] = []
        try:
            _, runner, _, _ = socket.recv_fds(spare.to_init, 1, 1)
            socket.send_fds(spare.to_runner, [b"."], descriptors)
            socket.send_fds(spare.to_init, [b"."], descriptors[1:])
        except OSError:
            runner = _close(runner)
        spare.to_init.close()
        spare.to_runner.close()
        if not runner:
            os.waitpid(spare.init, 0)
            return False
        self._children.add(spare.init)
        handles = os.pidfd_open(spare.init), *runner
        self.tell({"forked": spare.init}, handles)
        _close(handles)
        return True

    def _drop_spare(self) -> None:
        if self._spare is not None:
            spare, self._spare = self._spare, None
            spare.to_init.close()
            spare.to_runner.close()
            os.waitpid(spare.init, 0)

    def _leave(self) -> None:
        """In a child: nothing of the zygote's own stays."""
        self._selector.close()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for end in self._pipe:
            os.close(end)
        self._control.close()
        if self._spare is not None:
            self._spare.to_init.close()
            self._spare.to_runner.close()

    def _reap(self) -> None:
        for child in list(self._children):
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                self._children.discard(child)
                self.tell({"ended": [child, os.waitstatus_to_exitcode(status)]})


def _close(descriptors: Iterable[int]) -> list[int]:
    for descriptor in descriptors:
        os.close(descriptor)
    return []


def main() -> int:
    """The exit code of whichever container this process has become."""
    life.take_over()
    gc.disable()  # a page that a collection has emptied in part is one that children unshare
    control = socket.socket(fileno=life.keep(int(os.environ.pop("HOMEPORT_ZYGOTE_FD"))))
    told = json.loads(sys.stdin.readline())
    life.deafen()
    lines.install()
    life.ours_last(told["runner_path"])
    zygote = Zygote(control)
    with preload.Reads() as reads:
        _load_ours()
        try:
            preload.load(told["modules"])
        except preload.Unsafe as unsafe:
            zygote.tell({"unsafe": {"name": unsafe.name, "reason": str(unsafe)}})
            return 0
    tmp.possible()
    _calm()
    zygote.tell({"ready": {"reads": sorted(reads.names)}})
    return _live(zygote.serve(), None)


def _load_ours() -> None:
    """The runner itself, and the SDK with every public name."""
    import homeport

    alias.install()
    for name in OURS:
        importlib.import_module(f"homeport.{name}")
    for name in homeport.__all__:
        with contextlib.suppress(AttributeError):
            getattr(homeport, name)


def _live(birth: Birth, service: Any) -> int:
    """Become a container, or a zygote with the user's state."""
    from homeport.runner import container

    spec = _become(birth)
    life.confine(spec)
    if birth.given is not None:
        means = container.Means.of(birth.given)
        if service is None:
            life.settle(spec)
            preload.forget_shadowed(spec.source)
        return container.run(spec, means, service)
    zygote = Zygote(socket.socket(fileno=birth.control))
    if not zygote.tell({"pid": os.getpid()}):
        return 0  # nobody waits for it any more, or could end it
    life.settle(spec)
    preload.forget_shadowed(spec.source)
    watch = preload.Watch()
    service, told = container.snapshot(spec)
    if service is not None and (reason := watch.left_behind()):
        service, told = None, {"unsafe": {"name": spec.qualname, "reason": reason}}
    zygote.tell(told)
    if service is None:
        return 0
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(null, stream)
    os.close(null)
    _calm()
    return _live(zygote.serve(), service)


def _become(birth: Birth) -> ContainerSpec:
    """A process of its own: output, environment, random numbers, temporary files."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    if birth.given is None:
        for stream in (1, 2):
            os.dup2(birth.output, stream)
        os.close(birth.output)
    with os.fdopen(birth.request, "rb") as request:
        request.seek(0)
        asked = json.load(request)
    gc.enable()
    os.environ.clear()
    os.environ.update(asked["environ"])
    _reseed()
    spec: ContainerSpec = codec.decode(ContainerSpec, asked["spec"])
    name = "homeport.runner" if birth.given is not None else "homeport.runner.zygote"
    _entitle(f"{name} {spec.id} {spec.app} {spec.function} {spec.tmp_dir}")
    return spec


def _entitle(title: str) -> None:
    """What `ps` shows: over the arguments that the zygote was started with (proc(5), arg_start)."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    room = end - start - 1
    if room > 0:
        ctypes.memmove(start, title.encode()[:room].ljust(room + 1, b"\0"), room + 1)


def _reseed() -> None:
    """No two containers draw the same numbers (`random` sees to itself: os.register_at_fork)."""
    modules = sys.modules
    if numpy := modules.get("numpy.random"):
        numpy.seed()
    if torch := modules.get("torch"):
        torch.seed()
    if uuid := modules.get("uuid"):
        uuid._last_timestamp = None  # type: ignore[attr-defined] # noqa: SLF001 - two clocks, one MAC
    if process := modules.get("multiprocessing.process"):
        process.current_process().authkey = os.urandom(32)
    if tempfile := modules.get("tempfile"):
        tempfile.tempdir = None  # type: ignore[attr-defined]
    if time := modules.get("time"):
        time.tzset()


def _calm() -> None:
    """What there is now stays as it is, so that its pages stay shared (`gc.freeze`)."""
    gc.freeze()
    preload.mark()


if __name__ == "__main__":
    life.leave(main())
