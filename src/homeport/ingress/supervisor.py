"""Keeps one HAProxy process running, and knows the old processes that still finish their requests.

A new process starts with the whole picture: after a reload, after a crash, or if the process before
refused a command. After a reload the old process gets no more commands. Requests it cannot serve are sent
to the new process through the Unix socket `again`.

    tell(commands)   change the running process; if it refuses, replace it
    reload()         replace the process to change what no command can: listening sockets and backends
"""

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Protocol

import psutil

from homeport.contract.errors import IngressError
from homeport.ingress import config, process, secure
from homeport.ingress.maps import Maps
from homeport.ingress.process import Binary, Process
from homeport.ingress.runtime import Command, Runtime, Step
from homeport.settings import Settings
from homeport.supervised import Tasks, supervised

AGAIN_S = 1.0  # between two tries to replace a process that ended
FILES = ("park.lua", "page.html")  # HAProxy reads them from its working directory

log = logging.getLogger(__name__)


class Described(Protocol):
    """The values in a configuration."""

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The descriptors that the process needs."""

    @property
    def again(self) -> str:
        """A socket that a new process takes over before it is ready; empty if there is none."""


class Supervisor:
    """Starts, replaces and ends the HAProxy processes of one ingress; in one class, because all of it is about which one runs."""

    def __init__(
        self,
        settings: Settings,
        maps: Maps,
        *,
        tied: bool,
        describe: Callable[[str], Described],
        first: Callable[[], Sequence[Command]],
        on_begun: Callable[[Path], None],
        containers: Callable[[], Sequence[str]],
        listed: Callable[[Path], str],
        render: Callable[[Any], str] = config.render,
        files: Collection[str] = FILES,
    ) -> None:
        self.turn = asyncio.Lock()  # one change at a time
        self.binary: Binary | None = None
        self.directory = settings.run_dir / "ingress"
        self.spare = process.spare(self.directory)
        self._settings = settings
        self._maps = maps
        self._tied = tied
        self._describe = describe  # returns the configuration, given the Runtime API's socket
        self._first = first  # returns the commands that a new process gets after its start
        # Called with a new process's Runtime API when it accepts requests.
        self._on_begun = on_begun
        self._containers = containers
        self._listed = listed  # returns the list of certificates, given the working directory
        self._render, self._files = render, files
        self._process: Process | None = None
        self._retired: list[Process] = []
        self._generation = 0
        self._astray = asyncio.Event()  # set while the process may differ from the picture
        self._tasks = Tasks()

    @property
    def pid(self) -> int:
        """The id of the process that accepts requests; 0 while no process does."""
        return self._process.pid if self._process else 0

    @property
    def runtime(self) -> Runtime | None:
        """The Runtime API of the process that accepts requests; None while no process does."""
        current = self._process
        return Runtime(str(current.control)) if current and current.running else None

    def take_over(self) -> list[Process]:
        """Return every process that an earlier server left, the newest first."""
        return process.left((self.directory, self.spare), self._settings.socket_dir)

    def adopt(self, old: list[Process]) -> None:
        """Let `open` retire these processes when a new process has started."""
        self._retired = old
        self._generation = process.generation(old[0])

    def clear(self) -> None:
        """Delete the files and sockets of earlier processes."""
        for directory in (self.directory, self.spare):
            shutil.rmtree(directory, ignore_errors=True)
        self.directory.mkdir(parents=True, mode=0o700, exist_ok=True)
        self._unlink_sockets()

    async def open(self) -> None:
        """Start a process, and another one whenever it ends."""
        async with self.turn:
            await self._start()
            for old in self._retired:
                await old.retire(self._containers())
            for old in self._retired:
                await old.deaf()
        self._tasks.start("haproxy watcher", supervised("haproxy watcher", self._watch))
        self._tasks.start("haproxy repair", supervised("haproxy repair", self._repair))

    async def close(self) -> None:
        """End every process and delete their files."""
        await self._tasks.close()
        for haproxy in (self._process, *self._retired):
            if haproxy is not None:
                haproxy.kill()
        self._process, self._retired = None, []
        for directory in (self.directory, self.spare):
            shutil.rmtree(directory, ignore_errors=True)
        self._unlink_sockets()

    async def leave(self) -> None:
        """Let every process continue without this one."""
        await self._tasks.close()

    async def tell(self, commands: Sequence[Command], at_once: Sequence[Command] = ()) -> None:
        """Carry out the commands, and then those of `at_once` in one batch.

        Change the picture before this call: if the process refuses, a new process starts with the
        picture. `IngressError` if that fails too.
        """
        if (runtime := self.runtime) is None:
            return
        try:
            await runtime.tell(commands, at_once)
        except IngressError as error:
            if self.runtime is None:  # the process has ended: the next one starts with the picture
                return
            log.warning("%s; another process takes over", error)
            self._astray.set()
            await self.reload()

    async def carry_out(self, steps: Sequence[Step]) -> None:
        """Carry out steps about a certificate. Change the picture after this call.

        `IngressError` if the process refuses one: then another process starts soon, with the picture as it is.
        """
        if (runtime := self.runtime) is None:
            return
        try:
            await runtime.carry_out(steps)
        except IngressError as error:
            if self.runtime is None:  # the process has ended: the next one starts with the picture
                return
            log.warning("%s; another process takes over", error)
            self._astray.set()
            raise

    async def mend(self) -> None:
        """Replace a process that has half of a change. `IngressError` if that fails: begin no other change."""
        if self._astray.is_set() and self.runtime is not None:
            await self.reload()

    async def reload(self) -> None:
        """Start a new process, to which all come from now on; the old process finishes its requests and ends."""
        old = self._process
        if old is None:
            return  # `open` will start the first process with the whole picture
        await self._start()
        self._retired.append(old)
        await old.retire(self._containers())
        await old.deaf()

    def end_retired(self) -> None:
        """End the processes that still finish their requests."""
        for old in self._retired:
            if old.running:
                old.kill()
        self._retired = []

    async def hang_up(self, host: str, port: int, own_port: int | None) -> None:
        """End the connections of retired processes with another machine, as `Process.hang_up`."""
        for old in [old for old in self._retired if old.running]:
            try:
                await asyncio.to_thread(old.hang_up, host, port, own_port)
            except (psutil.Error, OSError) as error:
                if old.running:
                    log.warning(
                        "HAProxy (pid %d) may still have connections with %s:%d: %s",
                        *(old.pid, host, port, error),
                    )

    def suspects(self) -> frozenset[str]:
        """Return the containers that may still have requests of a retired process."""
        self._retired = [old for old in self._retired if old.running]
        return frozenset[str]().union(*(old.containers for old in self._retired))

    async def _start(self) -> None:
        """Start a new process with the whole picture; if it does not start, the old process stays."""
        assert self.binary is not None
        self._generation += 1
        control = self._settings.socket_dir / f"haproxy-{self._generation}.sock"
        described = self._describe(str(control))
        path = await asyncio.to_thread(self._write, described)
        try:
            fresh = await process.start(
                self.binary,
                path,
                control,
                described.descriptors,
                self.directory / "haproxy.log",
                tied=self._tied,
            )
        except IngressError:
            taken = described.again and not process.listens(Path(described.again))
            if self.runtime is not None and taken:
                self._astray.set()  # it took over the socket `again` before it ended
            raise
        try:
            await Runtime(str(control)).tell(self._first())
        except BaseException:
            fresh.kill()
            self._astray.set()
            raise
        self._process = fresh
        self._maps.commit()
        self._astray.clear()
        self._on_begun(control)

    def _write(self, described: Described) -> Path:
        """Write the configuration and the files that it names: to disk, or to /dev/shm if the disk is full."""
        try:
            return self._write_to(self.directory, described)
        except OSError as error:
            log.warning("HAProxy starts from %s: %s", self.spare, error)
        try:
            process.own(self.spare)
            return self._write_to(self.spare, described)
        except OSError as error:
            raise IngressError(f"homeport cannot write HAProxy's configuration: {error}") from None

    def _write_to(self, directory: Path, described: Described) -> Path:
        if directory == self.directory:
            self._maps.save()
        else:
            self._maps.write(directory)
        for name in self._files:
            _write(directory / name, Path(__file__).with_name(name).read_text())
        _write(directory / secure.LIST, self._listed(directory))
        _write(directory / "activator", f"{self._settings.activator_socket}\n")
        path = directory / f"haproxy-{self._generation}.cfg"
        _write(path, self._render(described))
        return path

    async def _watch(self) -> None:
        """Replace a process that has ended by itself; until then connections wait in the kernel."""
        failed = ""
        while True:
            current = self._process
            assert current is not None
            await current.ended()
            current.kill()  # the process has ended: this only reaps it
            async with self.turn:
                if current is not self._process:
                    continue
                if not failed:
                    log.warning("HAProxy (pid %d) ended; starting another", current.pid)
                try:
                    await self._start()
                    failed = ""
                    continue
                except IngressError as failure:
                    if (text := f"{failure}\n{failure.traceback}") != failed:
                        log.error("HAProxy does not start again: %s", text)  # noqa: TRY400
                    failed = text
            await asyncio.sleep(AGAIN_S)

    async def _repair(self) -> None:
        """Replace a process that has half of a change, and try again until that works."""
        while True:
            await self._astray.wait()
            async with self.turn:
                await self.mend()
            await asyncio.sleep(AGAIN_S)

    def _unlink_sockets(self) -> None:
        sockets = self._settings.socket_dir
        names = ("again.sock", "gone.sock", "nodes.sock")
        globs = ("haproxy-*.sock", "entered-*.sock", "entering-*.sock")
        paths = (path for pattern in globs for path in sockets.glob(pattern))
        for socket in (*(sockets / name for name in names), *paths):
            with contextlib.suppress(OSError):
                socket.unlink(missing_ok=True)


def _write(path: Path, text: str) -> None:
    """Replace a file, whole or not at all; leave it if its text is right (a full disk has no room)."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if path.read_text() == text:
            return
    fresh = path.with_suffix(".new")
    try:
        fresh.write_text(text)
        fresh.replace(path)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise
