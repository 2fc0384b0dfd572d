"""The node agent: starts containers on this machine, watches them, ends them.

The `Node` role of `contract/roles.py`. Each container has a directory `run/containers/<id>` with its
pid, its output and its own temporary files, and a socket `c/<id>.sock`.
"""

import asyncio
import contextlib
import dataclasses
import hashlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from homeport.contract.capacity import Accelerator, Capacity
from homeport.contract.container import Container, ContainerSpec, Event, LogLine, State
from homeport.contract.errors import ImageError, StorageError
from homeport.contract.image import Environment, Image
from homeport.node import gpus, records
from homeport.node.environments import Environments
from homeport.node.limits import Limits
from homeport.node.output import Output
from homeport.node.process import Process, environ_for, environ_of
from homeport.node.starts import Start
from homeport.node.zygotes import Unforkable, Unstartable, Zygotes
from homeport.settings import Settings

RUNNER = ("-m", "homeport.runner")
PASS_S = 0.05
CLOSE_GRACE_S = 2.0
STARTS_PER_CORE = 2  # more at once only make each of them slower
TURN_S = 1.0  # of those starts
MIB = 1024**2
KEPT_LINES = 20  # of a container's output, for one that ends without a word


@dataclasses.dataclass(slots=True, kw_only=True)
class _Run:
    """A container and what belongs to it."""

    container: Container
    directory: Path
    start: Start = dataclasses.field(default_factory=Start)
    task: asyncio.Task[None] | None = None
    process: Process | None = None
    output: Output | None = None
    lines: list[str] = dataclasses.field(default_factory=list)
    event: asyncio.Future[Event] = dataclasses.field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    stopping: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)
    grace_s: float = 0.0
    killed: str = ""  # by us, and why


class _Turn:
    """A start's share of the cores, given back after a while: one that hangs holds up no other."""

    def __init__(self, turns: asyncio.Semaphore) -> None:
        self._turns: asyncio.Semaphore | None = turns
        self._timer = asyncio.get_running_loop().call_later(TURN_S, self.give_back)

    def give_back(self) -> None:
        """Let the next one start."""
        if self._turns is not None:
            self._turns.release()
            self._turns = None
            self._timer.cancel()


class Agent:
    """Containers as processes of this machine."""

    def __init__(
        self,
        settings: Settings,
        *,
        tied: bool = False,
        runner: Sequence[str] = RUNNER,
        accelerators: Callable[[], tuple[Accelerator, ...]] = gpus.found,
    ) -> None:
        self._settings = settings
        self._root = settings.run_dir / "containers"
        self._sockets = settings.socket_dir / "c"
        self._lib = settings.run_dir / "lib"
        self._environments = Environments(settings.home / "environments")
        self._zygotes: Zygotes | None = None
        if settings.zygote_mib and tuple(runner) == RUNNER and sys.platform == "linux":
            self._zygotes = Zygotes(
                settings.home / "preload", self._lib, settings.zygote_mib, said=self._note
            )
        self._runner = tuple(runner)
        self._tied = tied
        self._lifeline: tuple[int, int] | None = None
        self._runs: dict[str, _Run] = {}
        self._starting = asyncio.Semaphore(STARTS_PER_CORE * (os.cpu_count() or 1))
        self._changed: Callable[[Container], None] = lambda _container: None
        self._said: Callable[[LogLine], None] = lambda _line: None
        self._follower: asyncio.Task[None] | None = None
        self._limits = Limits()
        self._accelerators = accelerators
        self._capacity = Capacity(cores=os.cpu_count() or 1, memory_mib=0)

    def watch(self, changed: Callable[[Container], None], said: Callable[[LogLine], None]) -> None:
        """Whom to tell."""
        self._changed, self._said = changed, said

    async def open(self) -> None:
        """Take possession of the run directory, and over what an earlier server left there."""
        for directory in (self._root, self._sockets, self._lib):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            if directory.stat().st_uid != os.getuid():
                raise StorageError(f"{directory} belongs to another user")
            directory.chmod(0o700)
        await asyncio.to_thread(self._environments.sweep)
        left = await asyncio.to_thread(records.sweep, self._root, self._sockets)
        if not left:
            shutil.rmtree(self._root.parent / "snapshots", ignore_errors=True)
        link = self._lib / "homeport"
        link.unlink(missing_ok=True)
        link.symlink_to(Path(__file__).parents[1])
        if self._tied:
            self._lifeline = os.pipe()
        self._capacity = await asyncio.to_thread(self._measured)
        self._limits.open(
            self._settings.cgroup,
            f"homeport-{hashlib.sha256(str(self._root).encode()).hexdigest()[:8]}",
            [container.spec.id for container in left],
            self._running,
            self._kill,
        )
        for container in left:
            self._adopt(container)
        self._follower = asyncio.create_task(self._follow(), name="container output")
        self._warm(Image())

    async def close(self) -> None:
        """End every container, at once and for good."""
        for name in list(self._runs):
            self.stop(name, grace_s=CLOSE_GRACE_S)
        tasks = [run.task for run in self._runs.values() if run.task]
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._follower is not None:
            self._follower.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._follower
        await self._limits.close()
        if self._zygotes is not None:
            self._zygotes.close()
        for descriptor in self._lifeline or ():
            os.close(descriptor)
        self._lifeline = None
        shutil.rmtree(self._root, ignore_errors=True)

    async def prepare(
        self, image: Image, source: str, environ: Mapping[str, str], say: Callable[[str], None]
    ) -> None:
        """Make the image's environment ready."""
        await self._environments.make(image, source, environ, say)
        self._warm(image)

    def _warm(self, image: Image) -> None:
        if self._zygotes is not None and self._follower is not None:
            made = self._environments.of(image)
            self._zygotes.warm(made, environ_of(image, os.environ, made.python))

    def environments(self) -> Collection[Environment]:
        """Every environment that was built here."""
        return self._environments.all()

    async def prune(self, keep: Collection[Image]) -> Collection[Environment]:
        """Remove the environments that none of these images needs."""
        return await self._environments.prune(keep)

    def forget(self, pool: str) -> None:
        """Let go of what was kept for the pool's next container."""
        if self._zygotes is not None:
            self._zygotes.forget(pool)

    def capacity(self) -> Capacity:
        """What the machine has for all containers together."""
        return self._capacity

    def start(self, spec: ContainerSpec, environ: Mapping[str, str]) -> None:
        """Begin to start a container."""
        directory = self._root / spec.id
        spec = dataclasses.replace(
            spec, socket=str(self._sockets / f"{spec.id}.sock"), tmp_dir=str(directory / "tmp")
        )
        run = _Run(
            container=Container(spec=spec, state=State.STARTING, started_at=time.time()),
            directory=directory,
        )
        self._runs[spec.id] = run
        run.task = asyncio.create_task(self._live(run, environ), name=spec.id)

    def stop(self, container: str, *, grace_s: float | None = None) -> None:
        """Ask a container to end; SIGKILL when its grace is over."""
        if run := self._runs.get(container):
            run.grace_s = run.container.spec.exit_grace_s if grace_s is None else grace_s
            run.stopping.set()

    def list(self) -> Collection[Container]:
        """Every container that is not gone."""
        return [run.container for run in self._runs.values()]

    def _measured(self) -> Capacity:
        return Capacity(
            cores=os.cpu_count() or 1,
            memory_mib=psutil.virtual_memory().total // MIB,
            accelerators=self._accelerators(),
        )

    def _running(self) -> Iterable[tuple[int, ContainerSpec]]:
        return [(r.process.pid, r.container.spec) for r in self._runs.values() if r.process]

    def _kill(self, container: str, what: str) -> None:
        """End a container that is over a limit, at once."""
        run = self._runs.get(container)
        if run is not None and run.process is not None and not run.killed:
            run.killed = what
            run.process.kill_all()

    def _adopt(self, container: Container) -> None:
        """Go on with a container that another server started and that is ready."""
        spec = container.spec
        self._limits.watch(spec)
        run = _Run(container=container, directory=self._root / spec.id)
        run.output = Output(run.directory / "output.log", self._said_by(run))
        run.process = Process(spec, lambda _event: None)
        self._runs[spec.id] = run
        run.task = asyncio.create_task(self._go_on(run), name=spec.id)

    async def _go_on(self, run: _Run) -> None:
        assert run.process is not None
        try:
            run.process.adopt(run.container.pid)
            await self._run(run)
        except ProcessLookupError:
            pass
        finally:
            self._clear_up(run)
        self._become(run, State.GONE, reason=run.container.reason)
        self._changed(run.container)

    async def _live(self, run: _Run, environ: Mapping[str, str]) -> None:
        """A container's whole life."""
        try:
            await self._born(run, environ)
        except OSError as error:
            self._become(run, State.FAILED, reason=f"cannot start a process: {error.strerror}")
        except ImageError as failure:
            self._become(run, State.FAILED, reason=f"{failure.message}: {failure.hint}")
        finally:
            self._clear_up(run)
        self._time(run)
        if run.container.state is State.FAILED:
            self._changed(run.container)
        else:
            self._become(run, State.GONE, reason=run.container.reason)
            self._changed(run.container)

    def _clear_up(self, run: _Run) -> None:
        if run.process is not None:
            run.process.kill_all()
            run.process.close()
        self._limits.gone(run.container.spec)
        if run.output is not None:
            run.output.close()
        shutil.rmtree(run.directory, ignore_errors=True)
        Path(run.container.spec.socket).unlink(missing_ok=True)
        del self._runs[run.container.spec.id]

    async def _born(self, run: _Run, environ: Mapping[str, str]) -> None:
        began = time.monotonic()
        await self._starting.acquire()
        turn = _Turn(self._starting)
        run.start.turn_came()
        try:
            if run.stopping.is_set():
                return
            try:
                await self._spawn(run, environ)
            except Unstartable as failed:
                self._time(run, failed.event)
                self._become(
                    run, State.FAILED, reason=failed.event.reason, traceback=failed.event.traceback
                )
                return
            event = await self._first_word(run)
        finally:
            turn.give_back()
        self._time(run, event)
        if event is None:
            await self._end(run)
            return
        if event.kind == "ready":
            self._become(
                run, State.READY, address=event.address, ready_after_s=time.monotonic() - began
            )
            records.write(run.directory, run.container)
            self._changed(run.container)
            await self._run(run)
        else:
            self._become(run, State.FAILED, reason=event.reason, traceback=event.traceback)
            await self._end(run)

    async def _spawn(self, run: _Run, secrets: Mapping[str, str]) -> None:
        made = self._environments.of(run.container.spec.image)
        others = [other.container.spec for other in self._runs.values() if other is not run]
        spec = self._limits.confined(run.container.spec, others)
        spec = dataclasses.replace(spec, runner_path=made.runner_path)
        run.container = dataclasses.replace(run.container, spec=spec)
        environ = environ_for(spec, secrets, os.environ, made.python)
        run.directory.mkdir(mode=0o700)
        (run.directory / "tmp").mkdir(mode=0o700)

        def told(event: Event) -> None:
            if event.kind == "imported":
                self._learn(run, event.modules)
            elif event.kind == "reached":
                run.start.reached(event)
            elif not run.event.done():
                run.event.set_result(event)

        run.output = Output(run.directory / "output.log", self._said_by(run))
        run.process = Process(spec, told)
        output, lifeline = run.output.fileno(), self._lifeline[0] if self._lifeline else None
        origin, why_fresh, born = "fresh", "forking is off, or not safe on this system", None
        try:
            if self._zygotes is not None:
                zygotes = self._zygotes
                born = await run.process.fork(
                    lambda passed: zygotes.fork(spec, made, environ, passed), output, lifeline
                )
                origin, why_fresh = born.origin, ""
        except Unforkable as why:
            why_fresh = str(why)
            self._note(spec, f"started in a fresh interpreter: {why}")
        if born is None:
            argv = [made.python, *self._runner]
            run.process.start(argv, environ, self._lib, output, lifeline)
        run.start.exists(born.snapshot if born else None)
        run.container = dataclasses.replace(
            run.container, pid=run.process.pid, origin=origin, why_fresh=why_fresh
        )
        records.write(run.directory, run.container)

    def _time(self, run: _Run, event: Event | None = None) -> None:
        """The start is over, by this event or without one: how long each part took."""
        run.start.ended(event)
        run.container = dataclasses.replace(
            run.container, timings_ms=run.start.timings_ms, imports_ms=run.start.imports_ms
        )

    def _note(self, spec: ContainerSpec, text: str) -> None:
        """Say something of a container in its log."""
        self._said(
            LogLine(
                at=time.time(),
                app=spec.app,
                function=spec.function,
                container=spec.id,
                text=text,
                source="system",
            )
        )

    def _said_by(self, run: _Run) -> Callable[[str, str], None]:
        spec = run.container.spec

        def said(text: str, request: str) -> None:
            run.lines = [*run.lines[-KEPT_LINES:], text]
            self._said(
                LogLine(
                    at=time.time(),
                    app=spec.app,
                    function=spec.function,
                    container=spec.id,
                    text=text,
                    request=request,
                )
            )

        return said

    def _learn(self, run: _Run, modules: Sequence[str]) -> None:
        image = run.container.spec.image
        if self._zygotes is not None:
            made = self._environments.of(image)
            environ = environ_of(image, os.environ, made.python)
            self._zygotes.learn(made, environ, tuple(modules))

    async def _first_word(self, run: _Run) -> Event | None:
        """What the runner says first; None when it is to stop before it said anything."""
        assert run.process is not None
        spec = run.container.spec
        ended = asyncio.ensure_future(run.process.ended())
        stopping = asyncio.ensure_future(run.stopping.wait())
        try:
            words: set[asyncio.Future[Any]] = {run.event, ended, stopping}
            await asyncio.wait(
                words,
                timeout=spec.startup_timeout_s + PASS_S * 4,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if run.event.done():
                return run.event.result()
            if stopping.done():
                return None
            if not ended.done():
                return Event(
                    kind="failed",
                    reason=f"did not become ready within {spec.startup_timeout_s:g} s",
                )
            run.process.close()  # its last word may still be in the pipe
            if run.event.done():
                return run.event.result()
            run.output and run.output.read()
            return Event(
                kind="failed",
                reason=self._why(run, ended.result()),
                traceback="\n".join(run.lines),
            )
        finally:
            ended.cancel()
            stopping.cancel()

    async def _run(self, run: _Run) -> None:
        assert run.process is not None
        ended = asyncio.ensure_future(run.process.ended())
        stopping = asyncio.ensure_future(run.stopping.wait())
        await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if ended.done() and not run.stopping.is_set():
            reason = self._why(run, ended.result())
            run.container = dataclasses.replace(run.container, reason=reason)
        ended.cancel()
        await self._end(run)

    def _why(self, run: _Run, code: int | None) -> str:
        """How it ended by itself, or by whom."""
        broken = run.killed or self._limits.broken(run.container.spec)
        return f"was killed: {broken}" if broken else records.in_words(code)

    async def _end(self, run: _Run) -> None:
        """SIGTERM, patience, and SIGKILL by the caller's `kill_all`."""
        assert run.process is not None
        if run.container.state is not State.FAILED:
            self._become(run, State.DRAINING)
        grace_s = run.grace_s if run.stopping.is_set() else CLOSE_GRACE_S
        run.process.signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await run.process.ended()
                return
        run.process.kill_all()
        await run.process.ended()

    def _become(self, run: _Run, state: State, **changes: object) -> None:
        run.container = dataclasses.replace(run.container, state=state, **changes)  # type: ignore[arg-type]

    async def _follow(self) -> None:
        while True:
            for run in list(self._runs.values()):
                if run.output is not None:
                    run.output.read()
            await asyncio.sleep(PASS_S)
