"""What a container's process does first and last, however it was begun."""

import asyncio
import atexit
import contextlib
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable

from homeport.contract.container import Launch, StartOrder
from homeport.contract.image import HOME, place
from homeport.contract.pulse import BEAT_S, Pulse
from homeport.runner import tmp
from homeport.sdk import alias

LET_GO_S = 0.5  # what a child gets to let go of the container's own: microseconds, as a rule
LINGER_S = 2.0  # what threads get to end by themselves


def keep(descriptor: int) -> int:
    """A descriptor that is this process's alone."""
    os.set_inheritable(descriptor, False)
    return descriptor


def keep_from_children(mine: Callable[[], Iterable[int]]) -> None:
    """What these descriptors lead to stays with this process, and not with one that user code forks.

    A child that kept the door, or a connection, would hold requests that nobody answers once the
    container has ended. So whoever forks goes on when the child has let go: on a busy machine that may
    be a while after the fork, and the container may end in it.
    """
    gone = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK | os.EFD_SEMAPHORE)
    container = os.getpid()

    def let_go() -> None:
        if os.getppid() != container:  # a child's child: these numbers may be its own files by now
            return
        # Put in their place, and not closed: whatever closes them later closes nobody else's.
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for descriptor in mine():
            with contextlib.suppress(OSError):
                os.dup2(null, descriptor, inheritable=False)
        os.close(null)
        os.eventfd_write(gone, 1)

    def wait() -> None:
        if os.getpid() == container:
            poll = select.poll()
            poll.register(gone, select.POLLIN)
            with contextlib.suppress(OSError):
                if poll.poll(LET_GO_S * 1000):
                    os.eventfd_read(gone)

    os.register_at_fork(after_in_child=let_go, after_in_parent=wait)


def beat(pulse: Pulse, loop: asyncio.AbstractEventLoop) -> None:
    """Show the node from now on that this process lives, and that its event loop turns."""

    def beats() -> None:
        while True:
            pulse.beat()
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(pulse.turn)
            time.sleep(BEAT_S)

    pulse.turn()
    threading.Thread(target=beats, name="homeport pulse", daemon=True).start()


def confine(launch: Launch) -> None:
    """Stay within the container's limits from here on, and in a /tmp of its own."""
    if launch.cgroup:
        try:
            with open(f"{launch.cgroup}/cgroup.procs", "w", encoding="ascii") as procs:  # noqa: PTH123
                procs.write("0")
        except OSError as error:
            sys.exit(f"cannot join the cgroup {launch.cgroup}: {error.strerror}")
    if launch.cores:
        os.sched_setaffinity(0, launch.cores)
    tmp.own(launch)


def take_over() -> None:
    """Ctrl-C is for the server to handle, the script has no arguments, and `modal` is homeport."""
    # Not SIG_IGN, which every program that the user's code starts would inherit.
    signal.signal(signal.SIGINT, lambda *_: None)
    del sys.argv[1:]
    # `multiprocessing` loads this first in a process that it begins, before the user's script.
    sys.modules["__main__"].__spec__ = alias.__spec__


def deafen() -> None:
    """Read nothing from standard input."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)


def settle(order: StartOrder) -> None:
    """The user's files come first on the path, and the working directory is theirs."""
    sys.path.insert(0, order.source)
    workdir = place(order.function.image.workdir or HOME, order.source)
    if workdir.startswith(f"{order.source}/"):
        os.makedirs(workdir, exist_ok=True)  # noqa: PTH103 - pathlib costs 10 ms
    os.chdir(workdir if os.path.isdir(workdir) else order.source)  # noqa: PTH112


def ours_last(runner_path: str) -> None:
    """What the user installed wins over what we brought: `python -m` has put ours first."""
    sys.path.append(sys.path.pop(0))
    if runner_path:
        sys.path.append(runner_path)


def leave(code: int) -> None:
    """End, even when the user's threads would go on forever."""

    def give_up() -> None:
        lingering = [
            thread.name
            for thread in threading.enumerate()
            if not thread.daemon and thread is not threading.main_thread()
        ]
        print(f"threads that did not end: {', '.join(lingering)}", file=sys.stderr)  # noqa: T201 - the container's log
        os._exit(code)

    patience = threading.Timer(LINGER_S, give_up)
    patience.daemon = True
    patience.start()
    # What the interpreter does at its end, but for clearing up every module: that would unshare
    # the pages of all that a zygote has imported (multiprocessing leaves in the same way).
    with contextlib.suppress(BaseException):
        threading._shutdown()  # type: ignore[attr-defined] # noqa: SLF001 - there is no other name
        atexit._run_exitfuncs()  # noqa: SLF001
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)
