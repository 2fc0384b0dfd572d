"""`python -m homeport.cell.enter CONTROL PIDFD ORDER`: runs a program in a running container, for
the container's user.

    the node ──▶ this process ──setns──▶ fork ──▶ the program, in the container's namespaces, sealed as the runner is

The arguments are descriptors: a socket to the node, the pidfd of the container's runner, and a file with the order:

    {"pid": 4711, "argv": ["bash"], "cwd": "/root", "environ": {…}, "terminal": [24, 80] or null,
     "cell": {…} or null, "cgroup": "/sys/fs/cgroup/…" or "", "cores": []}

`pid` is the runner's. With `cell` null the container has no namespaces of its own. The answers on the socket are
`{"error": "…"}`, or `{"started": true}` with the terminal's master as a descriptor, and at the end `{"code": 0}`. What
comes from the node is `{"signal": 2}`, for the program's process group. When the socket closes, the program is
killed. Without a terminal the program has this process's standard streams.

What a container could do meanwhile, and why it cannot: look into this process, or trace it (it cannot be dumped, and has
more capabilities until the program is sealed); write into this process's interpreter through /proc/self/exe, as in
CVE-2019-5736 (it is a sealed copy in memory); have this process import a file of the container (nothing can be
imported after it has entered); find a descriptor of the host's (all are closed before the program).
"""

import contextlib
import fcntl
import json
import os
import resource
import select
import signal
import socket
import stat
import struct
import sys
import sysconfig
import termios
import warnings
from typing import Any, NoReturn

from homeport.cell import kernel, seal, seccomp
from homeport.cell.description import Cell
from homeport.contract import codec

COPY = "homeport-enter"  # the name of the interpreter's copy
TIOCSPTLCK = 0x40045431  # asm-generic/ioctls.h: unlock a terminal
#: asm-generic/ioctls.h: open the other end of a terminal, whatever is at its path.
TIOCGPTPEER = 0x5441
NAMESPACES = {
    "user": kernel.NEWUSER,
    "mnt": kernel.NEWNS,
    "pid": kernel.NEWPID,
    "ipc": kernel.NEWIPC,
    "uts": kernel.NEWUTS,
    "net": kernel.NEWNET,
}
NOT_FOUND, NOT_RUN = 127, 126  # exit codes, as a shell has them
MFD_CLOEXEC, MFD_ALLOW_SEALING = 1, 2
ALL_SEALS = 0xF  # F_SEAL_SEAL, SHRINK, GROW, WRITE
F_ADD_SEALS = 1033


def main() -> int:
    """Read the order, and run it."""
    control, pidfd, order_file = (int(word) for word in sys.argv[1:])
    node = socket.socket(fileno=control)
    try:
        order = json.loads(os.pread(order_file, os.fstat(order_file).st_size, 0))
        _run_sealed_copy(order)
        child = _start(order, node, pidfd)
    except OSError as error:
        _answer(node, {"error": f"{error.strerror or error} ({error.filename or 'enter'})"})
        return 1
    return _wait(child, node)


def _run_sealed_copy(order: dict[str, Any]) -> None:
    """Execute a copy of the interpreter that cannot be written, unless the container's root could
    not write the interpreter.
    """
    if order["cell"] is None or COPY in os.readlink("/proc/self/exe"):
        return
    cell: Cell = codec.decode(Cell, order["cell"])
    own = os.stat("/proc/self/exe")
    if cell.ids is not None and os.geteuid() == own.st_uid == 0 and not own.st_mode & 0o022:
        return
    copy = os.memfd_create(COPY, MFD_CLOEXEC | MFD_ALLOW_SEALING)
    with open("/proc/self/exe", "rb") as file:
        left_bytes = own.st_size
        while left_bytes > 0:
            left_bytes -= os.sendfile(copy, file.fileno(), own.st_size - left_bytes, left_bytes)
    fcntl.fcntl(copy, F_ADD_SEALS, ALL_SEALS)
    library = sysconfig.get_config_var("LIBDIR") or ""
    path = ":".join(filter(None, (library, os.environ.get("LD_LIBRARY_PATH", ""))))
    flags = ["-E"] if sys.flags.ignore_environment else []
    words = [sys.executable, *flags, "-P", "-m", "homeport.cell.enter", *sys.argv[1:]]
    os.execve(f"/proc/self/fd/{copy}", words, {**os.environ, "LD_LIBRARY_PATH": path})  # noqa: S606


def _start(order: dict[str, Any], control: socket.socket, pidfd: int) -> int:
    """Enter the container, and fork the program; return its pid."""
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    if order["cgroup"]:
        with open(f"{order['cgroup']}/cgroup.procs", "w") as file:
            file.write("0")
    if order["cores"]:
        os.sched_setaffinity(0, order["cores"])
    cell: Cell | None = codec.decode(Cell, order["cell"]) if order["cell"] is not None else None
    if cell is not None:
        seccomp.program()  # made now, and kept
        _enter(order["pid"], pidfd)
    failure_reader, failure_writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(failure_reader)
        _run(order, cell, control, failure_writer)
    os.close(failure_writer)
    if cell is not None:
        seal.seal_init(cell)  # from now on this process only waits
    with open(failure_reader, "rb") as reader:
        if text := reader.read():
            os.waitpid(child, 0)
            raise OSError(0, text.decode(errors="replace"), "enter")
    return child


def _enter(pid: int, pidfd: int) -> None:
    """Enter the namespaces of a process that differ from this one's (man 2 setns). Nothing can be
    imported afterwards.
    """
    flags = 0
    for name, flag in NAMESPACES.items():
        theirs, own = os.stat(f"/proc/{pid}/ns/{name}"), os.stat(f"/proc/self/ns/{name}")
        if (theirs.st_dev, theirs.st_ino) != (own.st_dev, own.st_ino):
            flags |= flag
    if not flags & kernel.NEWUSER:
        raise OSError(1, "the container has no user namespace of its own", "enter")
    sys.path[:], sys.meta_path[:] = [], []
    kernel.setns(pidfd, flags)


def _run(
    order: dict[str, Any], cell: Cell | None, control: socket.socket, failure_writer: int
) -> NoReturn:
    """In the child: become the program. Never returns."""
    code = NOT_RUN
    try:
        try:
            _become(order, cell, control)
        except OSError as error:
            os.write(
                failure_writer, f"{error.strerror or error} ({error.filename or 'enter'})".encode()
            )
            os._exit(code)
        os.close(failure_writer)
        kernel.close_from(3)
        os.execvpe(order["argv"][0], order["argv"], order["environ"])  # noqa: S606
    except FileNotFoundError:
        code = NOT_FOUND
        os.write(2, f"there is no program `{order['argv'][0]}` in the container\n".encode())
    except OSError as error:
        os.write(2, f"`{order['argv'][0]}` cannot be run: {error.strerror}\n".encode())
    finally:
        os._exit(code)


def _become(order: dict[str, Any], cell: Cell | None, control: socket.socket) -> None:
    """Change into a process of the container's root, with a session, a terminal and the limits of the container."""
    os.setsid()
    if cell is not None:
        with contextlib.suppress(OSError):  # with one id there is nothing to change
            os.setgroups([])
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    _settle(order["terminal"], control)
    if cell is not None:
        seal.seal(cell)
    _usual_signals()
    try:
        os.chdir(order["cwd"])
    except OSError:
        os.chdir("/")


def _settle(terminal: "tuple[int, int] | None", control: socket.socket) -> None:
    """Report to the node that the program starts; if it has a terminal, make one of the container's
    its standard streams.
    """
    if terminal is None:
        _answer(control, {"started": True})
        return
    place = "/dev/pts/ptmx" if os.path.exists("/dev/pts/ptmx") else "/dev/ptmx"
    master = os.open(place, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    status = os.fstat(master)
    if not stat.S_ISCHR(status.st_mode) or os.major(status.st_rdev) != 5:
        raise OSError(25, "it is not a terminal", place)
    fcntl.ioctl(master, TIOCSPTLCK, struct.pack("i", 0))
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("4H", *terminal, 0, 0))
    slave = fcntl.ioctl(master, TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY)
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for stream in (0, 1, 2):
        os.dup2(slave, stream)
    socket.send_fds(control, [b'{"started": true}\n'], [master])
    os.close(master)
    os.close(slave)


def _usual_signals() -> None:
    """Undo what Python changes in signals, because the program would inherit it."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())


def _wait(child: int, control: socket.socket) -> int:
    """Pass on signals until the program has ended; kill it when the node hangs up."""
    handle = os.pidfd_open(child)
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(handle, select.POLLIN)
    partial_line = b""
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if handle in ready:
            break
        try:
            data = control.recv(4096)
        except OSError:
            data = b""
        if not data:
            poll.unregister(control)
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            continue
        *lines, partial_line = (partial_line + data).split(b"\n")
        for line in lines:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child, json.loads(line)["signal"])
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with contextlib.suppress(OSError):
        _answer(control, {"code": code if code >= 0 else 128 - code})
    return 0


def _answer(control: socket.socket, answer: dict[str, Any]) -> None:
    control.sendall(json.dumps(answer).encode() + b"\n")


#: Modules that the standard library imports when it needs them: imported here, because nothing can be imported later.
_NEEDED = (resource, warnings)

if __name__ == "__main__":
    sys.exit(main())
