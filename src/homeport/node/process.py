"""One container's process: its environment, its start, its events, its end."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import psutil

from homeport.contract import codec
from homeport.contract.container import ContainerSpec, Event
from homeport.contract.image import Image

CODE_S = 1.0  # a zygote tells the exit code of what it forked at once, if it lives

#: What a container takes over from the server's environment; nothing else gets through.
INHERITED = (
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LANGUAGE",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "LD_LIBRARY_PATH",
)


def environ_of(
    image: Image, outer: Mapping[str, str], python: str = sys.executable
) -> dict[str, str]:
    """The variables that all containers of an image share."""
    folder, ours = Path(python).parent, str(Path(sys.executable).parent)
    # What is installed beside homeport is no business of an environment of its own.
    rest = [part for part in outer.get("PATH", os.defpath).split(os.pathsep) if part != ours]
    venv = {"VIRTUAL_ENV": str(folder.parent)} if image.has_environment else {}
    return {
        **{name: outer[name] for name in INHERITED if name in outer},
        "PATH": os.pathsep.join([str(folder), *rest]),
        **venv,
        "PYTHONUNBUFFERED": "1",
        **image.environ,
    }


def environ_for(
    spec: ContainerSpec,
    secrets: Mapping[str, str],
    outer: Mapping[str, str],
    python: str = sys.executable,
) -> dict[str, str]:
    """The container's variables: ours, the image's, the secrets', and last the reserved ones."""
    reserved = {
        "IS_REMOTE": "1",
        "TASK_ID": spec.id,
        "IMAGE_ID": f"im-{spec.image.key}",
        "CLOUD_PROVIDER": "local",
        "REGION": "local",
        "ENVIRONMENT": "main",
    }
    return {
        **environ_of(spec.image, outer, python),
        "TMPDIR": spec.tmp_dir,
        **secrets,
        # Those that are nobody's here are somebody else's.
        "CUDA_VISIBLE_DEVICES": ",".join(spec.devices),
        "NVIDIA_VISIBLE_DEVICES": ",".join(spec.devices) or "void",
        **{f"{prefix}_{k}": v for prefix in ("MODAL", "HOMEPORT") for k, v in reserved.items()},
        "HOMEPORT_APP": spec.app,
        "HOMEPORT_FUNCTION": spec.function,
        "HOMEPORT_REVISION": spec.revision,
    }


class Born(Protocol):
    """What a zygote has forked: see node/zygote.py."""

    @property
    def pid(self) -> int: ...
    @property
    def pidfd(self) -> int: ...
    @property
    def code(self) -> "asyncio.Future[int | None]": ...
    @property
    def origin(self) -> str: ...
    @property
    def snapshot(self) -> Event | None: ...


Fork = Callable[[tuple[int, ...]], Awaitable[Born]]


class Process:
    """A runner, as its node sees it."""

    def __init__(self, spec: ContainerSpec, said: Callable[[Event], None]) -> None:
        self._spec = spec
        self._said = said
        self._process: subprocess.Popen[bytes] | None = None
        self._code: asyncio.Future[int | None] | None = None  # a forked one's
        self._pid = 0
        self._report: int | None = None
        self._rest = b""
        self._ended = asyncio.Event()
        self._watching: int | None = None

    @property
    def pid(self) -> int:
        """Of the runner; 0 before it runs."""
        return self._pid

    def start(
        self,
        argv: Sequence[str],
        environ: dict[str, str],
        cwd: Path,
        output: int,
        lifeline: int | None,
    ) -> None:
        """Start the runner in a session of its own and hand it the spec."""
        report, write = os.pipe()
        passed = (write,) if lifeline is None else (write, lifeline)
        environ = {**environ, "HOMEPORT_REPORT_FD": str(write)}
        if lifeline is not None:
            environ["HOMEPORT_LIFELINE_FD"] = str(lifeline)
        try:
            self._process = subprocess.Popen(
                list(argv),
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=environ,
                cwd=cwd,
                pass_fds=passed,
                start_new_session=True,
            )
        except BaseException:
            os.close(report)
            raise
        finally:
            os.close(write)
        self._pid = self._process.pid
        self._listen(report)
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError), self._process.stdin as stdin:
            stdin.write(codec.dumps(self._spec).encode() + b"\n")
        self._watch(os.pidfd_open(self._pid))

    async def fork(self, fork: Fork, output: int, lifeline: int | None) -> Born:
        """Have a zygote begin it; raises what the zygotes raise."""
        report, write = os.pipe()
        try:
            born = await fork((output, write) if lifeline is None else (output, write, lifeline))
        except BaseException:
            os.close(report)
            raise
        finally:
            os.close(write)
        self._pid, self._code = born.pid, born.code
        self._listen(report)
        self._watch(born.pidfd)
        return born

    def adopt(self, pid: int) -> None:
        """Watch a runner that an earlier server started; `ProcessLookupError` if it has ended."""
        self._pid = pid
        self._watch(os.pidfd_open(pid))

    async def ended(self) -> int | None:
        """Its exit code, negative for a signal, once it has ended; None for somebody else's child."""
        await self._ended.wait()
        if self._code is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CODE_S):
                    return await asyncio.shield(self._code)
        return self._process.wait() if self._process else None

    def signal(self, number: signal.Signals) -> None:
        """To the runner alone, which passes it on as it sees fit."""
        if self._pid and not self._ended.is_set():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, number)

    def kill_all(self) -> None:
        """SIGKILL to whatever is left of the container's session."""
        for pid in session_members(self.pid):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        """Give the descriptors back."""
        loop = asyncio.get_running_loop()
        if self._report is not None:
            self._read()
        if self._report is not None:
            loop.remove_reader(self._report)
            os.close(self._report)
            self._report = None

    def _listen(self, report: int) -> None:
        self._report = report
        os.set_blocking(report, False)
        asyncio.get_running_loop().add_reader(report, self._read)

    def _watch(self, pidfd: int) -> None:
        self._watching = pidfd
        loop = asyncio.get_running_loop()
        loop.add_reader(pidfd, self._gone, loop)

    def _gone(self, loop: asyncio.AbstractEventLoop) -> None:
        assert self._watching is not None
        loop.remove_reader(self._watching)
        os.close(self._watching)
        self._ended.set()

    def _read(self) -> None:
        assert self._report is not None
        while True:
            try:
                data = os.read(self._report, 65536)
            except BlockingIOError:
                return
            if not data:
                asyncio.get_running_loop().remove_reader(self._report)
                os.close(self._report)
                self._report = None
                return
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                self._said(codec.loads(Event, line))


def session_members(leader: int) -> list[int]:
    """Every process of the session that `leader` began, and their descendants elsewhere."""
    return sessions([leader])[leader]


def sessions(leaders: Sequence[int]) -> dict[int, list[int]]:
    """The same for several leaders, in one look at all processes."""
    members: dict[int, set[int]] = {leader: set() for leader in leaders}
    children: dict[int, list[int]] = {}
    for pid in psutil.pids() if any(leaders) else ():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            children.setdefault(psutil.Process(pid).ppid(), []).append(pid)
            if (leader := os.getsid(pid)) and leader in members:
                members[leader].add(pid)
    for known in members.values():
        todo = list(known)
        while todo:
            for child in children.get(todo.pop(), ()):
                if child not in known:  # it has made a session of its own
                    known.add(child)
                    todo.append(child)
    return {leader: sorted(known) for leader, known in members.items()}
