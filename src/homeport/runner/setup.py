"""Sets up a container's process before the user's code runs, and ends it after."""

import atexit
import contextlib
import functools
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from homeport.contract.container import Launch, StartOrder
from homeport.contract.image import HOME, place
from homeport.runner import tmp
from homeport.sdk import alias

if TYPE_CHECKING:
    from homeport.runner.report import Report

LET_GO_S = 0.5  # how long a forked child may take to close the container's descriptors: usually microseconds
LINGER_S = 2.0  # how long threads may take to end by themselves


def keep(descriptor: int) -> int:
    """Make a descriptor close in programs that this process starts; return it."""
    os.set_inheritable(descriptor, False)
    return descriptor


def keep_from_children(own_descriptors: Callable[[], Iterable[int]]) -> None:
    """Close these descriptors in each child that the user's code forks.

    A child with the door or a connection would keep requests waiting after the container has ended. So a
    fork returns in the parent only when the child has closed them, because on a busy machine the container
    could end before that.
    """
    ended_children = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK | os.EFD_SEMAPHORE)
    container = os.getpid()

    def let_go() -> None:
        if os.getppid() != container:  # a child's child: these numbers may be its own files by now
            return
        # Replaced by /dev/null, not closed: code that closes the number later would close another file.
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for descriptor in own_descriptors():
            with contextlib.suppress(OSError):
                os.dup2(null, descriptor, inheritable=False)
        os.close(null)
        os.eventfd_write(ended_children, 1)

    def wait() -> None:
        if os.getpid() == container:
            poll = select.poll()
            poll.register(ended_children, select.POLLIN)
            with contextlib.suppress(OSError):
                if poll.poll(LET_GO_S * 1000):
                    os.eventfd_read(ended_children)

    os.register_at_fork(after_in_child=let_go, after_in_parent=wait)


def confine(launch: Launch) -> None:
    """Join the container's cgroup, stay on its cores, and mount its own /tmp."""
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
    """Ignore Ctrl-C, which the server handles; clear `sys.argv`; make `import modal` import homeport."""
    # Not SIG_IGN, which every program that the user's code starts would inherit.
    signal.signal(signal.SIGINT, lambda *_: None)
    del sys.argv[1:]
    # `multiprocessing` loads this module first in its child processes, before the user's script.
    sys.modules["__main__"].__spec__ = alias.__spec__


def deafen() -> None:
    """Replace standard input by /dev/null."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)


def look_again() -> None:
    """Forget which entries of `sys.path` were no directories in the zygote: a volume may be mounted there by now."""
    for entry, finder in list(sys.path_importer_cache.items()):
        if finder is None:
            del sys.path_importer_cache[entry]


def settle(order: StartOrder) -> None:
    """Put the user's files first on `sys.path`, and change to their working directory."""
    sys.path.insert(0, order.source)
    workdir = place(order.function.image.workdir or HOME, order.source)
    is_in_cell = order.source == HOME  # what is made there is the container's own
    go_to(workdir, order.source, makes=is_in_cell or workdir.startswith(f"{order.source}/"))


def go_to(directory: str, otherwise: str, *, makes: bool) -> None:
    """Change to a directory, made first if `makes`; to another one if it is none."""
    if makes and not os.path.isdir(directory):  # noqa: PTH112 - pathlib costs 10 ms
        with contextlib.suppress(OSError):  # a file has that name
            os.makedirs(directory)  # noqa: PTH103
    os.chdir(directory if os.path.isdir(directory) else otherwise)  # noqa: PTH112


def reach(launch: Launch) -> None:
    """Tell the SDK how this container calls functions; open its way to URLs, if it needs one."""
    from homeport.sdk import context

    order = launch.order
    reach = context.Reach(
        socket=launch.calls,
        app=order.pool.app,
        scope=order.scope,
        environment=order.within.environment,
        key=order.key,
        own=tuple(call.tag for call in order.function.calls)
        if order.function.max_containers == 1
        else (),
        query=order.pool.parameters,
        container=order.id,
    )
    context.enter_calls(reach)
    # A program such as `streamlit run`, which a `web_server` starts, imports the SDK in a process of its own.
    os.environ.update(context.for_programs(reach, order.function.volumes))
    if launch.ingress:
        from homeport.runner import ways

        ways.begin(launch)


def offer_tunnels(report: "Report") -> None:
    """Let `modal.forward` open tunnels of this container."""
    from homeport.sdk import context

    @functools.cache
    def tunnels() -> Any:
        from homeport.runner.tunnels import Tunnels  # few containers have one

        return Tunnels(report)

    context.tunnels = tunnels


def ours_last(runner_path: str) -> None:
    """Move homeport's own packages to the end of `sys.path`, after the user's: `python -m` has put them first."""
    sys.path.append(sys.path.pop(0))
    if runner_path:
        sys.path.append(runner_path)


def leave(code: int) -> None:
    """End the process, also if the user's threads never end."""

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
    # Do what the interpreter does at its end, except clearing all modules: that would copy the pages of
    # everything that a zygote has imported (multiprocessing ends in the same way).
    with contextlib.suppress(BaseException):
        threading._shutdown()  # type: ignore[attr-defined] # noqa: SLF001 - there is no other name
        atexit._run_exitfuncs()  # noqa: SLF001
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)
