"""Runs one container: waits for its turn, starts its process, waits until it is ready, ends it."""

import asyncio
import collections
import contextlib
import dataclasses
import logging
import os
import signal
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from homeport import removing
from homeport.contract import pulse
from homeport.contract.container import Container, Descriptors, Event, Launch, State
from homeport.contract.errors import ImageError, StartError
from homeport.node.cells import networks
from homeport.node.containers import beginning, leftovers, pulses, records
from homeport.node.containers import door as doors
from homeport.node.containers import output as outputs
from homeport.node.containers.output import Output
from homeport.node.containers.process import Process
from homeport.node.containers.pulses import Patient
from homeport.node.containers.shared import Shared, Turn, log_line
from homeport.node.containers.starts import Start
from homeport.node.containers.tunnels import Tunnels
from homeport.node.zygotes.snapshots import Unstartable

log = logging.getLogger(__name__)

CLOSE_GRACE_S = 2.0
SLACK_S = 0.2  # longer than the runner's own `startup_timeout`, so that its report arrives first
#: Events of one container that are heeded, by kind: the user's code can send any number, and each is a file or a line of the log.
MOST_EVENTS = {"imported": 20, "again": 1, "unlike": 20}
KEPT_LINES = 20  # last lines of the output, for a container that ends without a report


class Life:
    """A container with its process, files and limits; `gone` is called when nothing of it is left.

    One class, because the container's states follow each other in one order.
    """

    def __init__(
        self,
        container: Container,
        launch: Launch,
        directory: Path,
        shared: Shared,
        *,
        others: Callable[[], Iterable[Launch]],
        gone: Callable[["Life"], None],
    ) -> None:
        self.container = container
        self.launch = launch
        self.directory = directory
        self.process: Process | None = None
        self._shared = shared
        self._others = others
        self._gone = gone
        self._start = Start()
        self._output: Output | None = None
        self._lines: collections.deque[str] = collections.deque(maxlen=KEPT_LINES)
        self._word: asyncio.Future[Event] = asyncio.get_running_loop().create_future()
        self._stopping = asyncio.Event()
        self._grace_s = 0.0
        self._killed = ""  # why the node has killed it
        self._shortages = records.memory_shortages()
        self._events = collections.Counter[str]()
        self._tunnels = Tunnels(container.id, shared.doors if shared.cells else None)
        self._pulse: pulse.Reader | None = None
        self._patient: Patient | None = None
        self._address = container.address  # of its door: the node says it, never the container

    async def live(self, secrets: Mapping[str, str]) -> None:
        """Run the container from its turn to its end."""
        await self._until_gone(self._lived(secrets))

    async def go_on(self, leader: int) -> None:
        """Run a ready container of an earlier server to its end."""
        await self._until_gone(self._gone_on(leader))

    async def _until_gone(self, life: Coroutine[None, None, None]) -> None:
        """Run the container's life; whatever fails, report its end, and leave nothing of it."""
        try:
            await life
        except Exception:  # perhaps the machine has no descriptor or thread left
            log.exception("%s cannot be ended as usual, and is killed", self.container.id)
            self.kill("it could not be ended")
        finally:
            self._clear_up()
        if self.container.state is not State.FAILED:
            self._become(State.GONE)
        self._shared.changed(self.container)
        await self._remove_files()

    async def _lived(self, secrets: Mapping[str, str]) -> None:
        is_ready = False
        try:
            if self._shared.fetch is not None:
                await self._shared.fetch(self.launch.order.source)
            is_ready = await self._started(secrets)
        except StartError as failure:
            self._become(State.FAILED, reason=failure.message)
        except OSError as error:
            self._become(State.FAILED, reason=f"cannot start a process: {error.strerror}")
            await self._end()
        except ImageError as failure:
            self._become(State.FAILED, reason=f"{failure.message}: {failure.hint}")
        except Exception as error:  # else the container would be about to start for ever
            log.exception("%s cannot be started", self.container.id)
            why = f"{type(error).__name__}, a bug of homeport; its log says more"
            self._become(State.FAILED, reason=f"cannot be started: {why}")
            await self._end()
        self._time()
        if is_ready:
            await self._serve()

    async def _gone_on(self, leader: int) -> None:
        self.process = Process(self.launch, lambda _event: None)
        self._shared.limits.watch(self.launch)
        try:
            self.process.adopt(leader, self.container.pid)
            self._follow(outputs.of_init(leader))
            self._pulse = pulses.of_init(leader)
            self._holds(self._pulse.read().held)
            looking = asyncio.create_task(pulses.follow_held(self._pulse, self._holds))
            try:
                await self._serve()
            finally:
                looking.cancel()
        except (OSError, ValueError) as error:  # it has just ended, or cannot be watched
            log.warning("%s cannot be taken over and ends: %s", self.container.id, error)
            self.stop(0)
            await self._end()

    def stop(self, grace_s: float | None) -> None:
        """Ask the container to end; kill it after its grace time."""
        self._grace_s = self.container.order.exit_grace_s if grace_s is None else grace_s
        self._stopping.set()

    def confirm_held(self, held: int) -> None:
        """Tell the runner that the ingress keeps this many slots back."""
        if self.process is not None:
            self.process.tell({"held": held})

    def kill(self, why: str) -> None:
        """Kill the container, because it is over a limit or hangs."""
        if self.process is not None and not self._killed:
            self._killed = why
            self.process.signal(signal.SIGKILL)

    def replace(self, why: str) -> None:
        """Let the container finish its requests and end; report at once that it needs a replacement."""
        if self._stopping.is_set():
            return
        reason = f"was ended: {why}"
        self.container = dataclasses.replace(self.container, leaving=True, reason=reason)
        self._say(f"is being replaced: {why}", source="system")
        self._shared.changed(self.container)
        self.stop(None)

    async def _started(self, secrets: Mapping[str, str]) -> bool:
        began = time.monotonic()
        await self._shared.turns.acquire()
        turn = Turn(self._shared.turns)
        self._start.turn_came()
        try:
            if self._stopping.is_set():
                return False
            try:
                await self._spawn(secrets)
            except Unstartable as failed:
                event: Event | None = failed.event
            else:
                event = await self._first_word()
        finally:
            turn.give_back()
        self._time(event)
        if event is not None and event.kind == "ready":
            took_s = time.monotonic() - began
            assert self.process is not None
            await self.process.runner_known()
            self._become(State.READY, address=self._address, ready_after_s=took_s)
            records.write(self.directory, self.container, self.launch, self.process.leader)
            self._shared.changed(self.container)
            if self._shared.cells is not None:  # else containers compile for themselves
                order = self.launch.order
                self._shared.environments.compile(order.function.image, order.source)
            return True
        if event is not None:
            self._become(State.FAILED, reason=event.reason, traceback=event.traceback)
        await self._end()
        return False

    async def _spawn(self, secrets: Mapping[str, str]) -> None:
        shared = self._shared
        self.launch = shared.limits.confined(self.launch, self._others())
        launch, image, environ = beginning.prepared(shared, self.launch, secrets)
        self.launch = launch
        self.directory.mkdir(mode=0o700)
        (self.directory / "tmp").mkdir(mode=0o700)
        self.process = Process(launch, self._on_event, self.kill)
        # What it holds is closed here: only the container keeps its copies.
        with contextlib.ExitStack() as handed_over:
            comes_out, goes_in = outputs.pipe()
            handed_over.callback(os.close, goes_in)
            self._follow(comes_out)
            if shared.cells is None:
                door, self._address = doors.make(launch.id)
            else:
                door, self._address = doors.make_in(shared.doors, launch.id)
            handed_over.enter_context(door)
            beats = pulse.create()
            handed_over.callback(os.close, beats)
            self._pulse = pulse.Reader(beats)
            descriptors = Descriptors(
                output=goes_in,
                report=-1,
                door=door.fileno(),
                pulse=beats,
                lifeline=shared.lifeline,
            )
            forked, why_fresh = await beginning.begin(
                shared, launch, self.process, image, environ, descriptors, say=self._say_once
            )
        if forked is not None and forked.storage:
            # What it writes, so that it is measured and removed.
            self.launch = dataclasses.replace(launch, tmp_dir=forked.storage)
        self._start.exists(forked.snapshot if forked else None)
        self.container = dataclasses.replace(
            self.container,
            pid=self.process.pid,
            origin=forked.origin if forked else "fresh",
            why_fresh=why_fresh,
        )
        records.write(self.directory, self.container, self.launch, self.process.leader)

    def _on_event(self, event: Event) -> None:
        if event.kind in MOST_EVENTS:
            self._events[event.kind] += 1
            if self._events[event.kind] > MOST_EVENTS[event.kind]:
                return
        if event.kind == "imported":
            self._learn(event.modules)
        elif event.kind in ("again", "unlike"):
            self._record_useless_preloads(event)
        elif event.kind == "reached":
            self._start.reached(event)
        elif event.kind == "held":
            self._holds(event.held)
        elif event.kind in ("tunnel", "closed"):
            assert self.process is not None
            if self._tunnels.hear(event, self.process.passed):
                self.container = dataclasses.replace(self.container, tunnels=self._tunnels.all)
                self._shared.changed(self.container)
        elif event.kind == "cut":
            self.container = dataclasses.replace(self.container, cuts=self.container.cuts + 1)
            if self.container.state is State.READY:
                self._shared.changed(self.container)
        elif not self._word.done():
            self._word.set_result(event)

    def _holds(self, slots: int) -> None:
        """Note how many slots the container holds, and report a change."""
        held = min(max(slots, 0), self.launch.function.max_inputs)
        if held != self.container.held:
            self.container = dataclasses.replace(self.container, held=held)
            if self.container.state is State.READY:
                self._shared.changed(self.container)

    def _learn(self, modules: Sequence[str]) -> None:
        if self._shared.zygotes is not None:
            self._shared.zygotes.learn(self.launch.order.pool, tuple(modules))

    def _record_useless_preloads(self, event: Event) -> None:
        """Record the preloaded modules that made it start again, or that differed too late for that."""
        if event.kind == "again":
            self.container = dataclasses.replace(
                self.container, origin="fresh", why_fresh=event.reason
            )
            self._say_once(f"started in a fresh interpreter: {event.reason}")
        else:
            self._say_once(f"preloaded modules differ from a fresh import: {event.reason}")
        if self._shared.zygotes is not None:
            self._shared.zygotes.spoil(self.launch.order.pool, event)

    def _say_once(self, text: str) -> None:
        """Log a line, once for each revision of the function."""
        zygotes = self._shared.zygotes
        if zygotes is None or zygotes.once(self.container.order, text):
            self._say(text, source="system")

    async def _first_word(self) -> Event | None:
        """Wait for the runner's first report; None if the container is asked to stop before it."""
        assert self.process is not None
        timeout_s = self.launch.function.startup_timeout_s
        ended = asyncio.ensure_future(self.process.ended())
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            words: set[asyncio.Future[Any]] = {self._word, ended, stopping}
            await asyncio.wait(
                words, timeout=timeout_s + SLACK_S, return_when=asyncio.FIRST_COMPLETED
            )
            if self._word.done():
                return self._word.result()
            if stopping.done():
                return None
            if not ended.done():
                return Event(kind="failed", reason=f"did not become ready within {timeout_s:g} s")
            self.process.close()  # its last report may still be in the socket
            if self._word.done():
                return self._word.result()
            await self._finish_output()
            return Event(
                kind="failed",
                reason=self._why(ended.result()),
                traceback="\n".join(self._lines),
            )
        finally:
            ended.cancel()
            stopping.cancel()

    @property
    def patient(self) -> Patient | None:
        """Its pulse, while the node has to check it."""
        return self._patient if self.container.state is State.READY else None

    async def _serve(self) -> None:
        assert self.process is not None
        assert self._pulse is not None
        self._patient = Patient(self._pulse, self.process.pid, self.launch.function.timeout_s)
        ended = asyncio.ensure_future(self.process.ended())
        stopping = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if ended.done() and not self._stopping.is_set():
            self.container = dataclasses.replace(self.container, reason=self._why(ended.result()))
        ended.cancel()
        await self._end()

    async def _end(self) -> None:
        """Send SIGTERM, wait, and send SIGKILL; do nothing if no process was started."""
        if self.process is None or not self.process.leader:
            await self._finish_output()
            return
        if self.container.state is not State.FAILED:
            self._become(State.DRAINING)
            self._shared.changed(self.container)
        grace_s = self._grace_s if self._stopping.is_set() else CLOSE_GRACE_S
        self.process.wake()
        self.process.signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self.process.ended()
        await self.process.killed()
        if await self.process.ended() in (None, -signal.SIGKILL):  # or init was killed from outside
            await asyncio.to_thread(leftovers.end, self.process.leader, self.directory / "tmp")
        await self._finish_output()

    def _clear_up(self) -> None:
        try:
            # The last one comes first; if one fails, the others follow.
            with contextlib.ExitStack() as steps:
                steps.callback(self._gone, self)
                steps.callback(self._tunnels.close_all)
                steps.callback(doors.remove, self._address)
                steps.callback(networks.end, self.directory)
                steps.callback(self._shared.limits.release, self.launch)
                if self._pulse is not None:
                    steps.callback(self._pulse.close)
                if self.process is not None:
                    steps.callback(self.process.close)
                self._patient = self._pulse = None
        except Exception:
            log.exception("a part of %s stays", self.container.id)

    async def _remove_files(self) -> None:
        """Delete its files in a thread: there may be very many."""
        await asyncio.to_thread(removing.discard, str(self.directory))
        written = self.launch.tmp_dir
        if self._shared.cells is not None and not Path(written).is_relative_to(self.directory):
            await asyncio.to_thread(self._shared.cells.remove, written)

    def _why(self, code: int | None) -> str:
        """Return how the container ended, in words."""
        broken = self._killed or self._shared.limits.broken(self.launch)
        if broken:
            return f"was killed: {broken}"
        return records.in_words(code, records.memory_shortages() != self._shortages)

    def _time(self, event: Event | None = None) -> None:
        """Record how long each part of the start took; the start ended with this event, or without one."""
        self._start.ended(event)
        self.container = dataclasses.replace(
            self.container, timings_ms=self._start.timings_ms, imports_ms=self._start.imports_ms
        )

    def _become(self, state: State, **changes: object) -> None:
        if self.process is not None and self.process.pid:
            changes["pid"] = self.process.pid
        self.container = dataclasses.replace(self.container, state=state, **changes)  # type: ignore[arg-type]

    def _follow(self, pipe: int) -> None:
        self._output = self._shared.outputs.follow(pipe, self._on_line)

    async def _finish_output(self) -> None:
        if self._output is not None:
            await self._shared.outputs.finish(self._output)

    def _on_line(self, text: str, request: str, source: str) -> None:
        if source == "output":
            self._lines.append(text)
        self._say(text, request=request, source=source)

    def _say(self, text: str, *, request: str = "", source: str = "output") -> None:
        self._shared.on_line(log_line(self.container.order, text, source=source, request=request))
