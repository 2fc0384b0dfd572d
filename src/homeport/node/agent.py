"""The node agent: starts containers on this machine, watches them, ends them.

Implements the `Node` role of `contract/roles.py`. Each container has a directory `run/containers/<id>` with
its record and its temporary files; `containers/container.py` runs it from its start to its end.
"""

import asyncio
import contextlib
import dataclasses
import hashlib
import os
import sys
import time
from collections.abc import (
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Iterable,
    Mapping,
    Sequence,
)
from pathlib import Path

import psutil

from homeport import removing
from homeport.contract.capacity import Accelerator, Capacity, Usage
from homeport.contract.container import HERE, Container, Launch, LogLine, StartOrder, State
from homeport.contract.errors import ImageError, NotFound, StartError, StorageError
from homeport.contract.image import Environment, Image
from homeport.contract.listing import Change, Listing, Mark
from homeport.contract.programs import Order
from homeport.contract.sizes import MIB
from homeport.contract.supplies import Supplies
from homeport.contract.traffic import PoolKey
from homeport.node import openapi
from homeport.node.cells import sandboxes
from homeport.node.containers import door, programs, pulses, records
from homeport.node.containers.changes import Changes
from homeport.node.containers.container import CLOSE_GRACE_S, Life
from homeport.node.containers.output import Outputs
from homeport.node.containers.pulses import Patient
from homeport.node.containers.shared import Shared, log_line
from homeport.node.images.environments import Environments
from homeport.node.images.latest import Latest
from homeport.node.images.trusted import Trusted
from homeport.node.launch import environ_of, with_modal
from homeport.node.limits import gpus
from homeport.node.limits.keeper import Limits
from homeport.node.limits.usage import Meter
from homeport.node.zygotes.nursery import Zygotes
from homeport.settings import Settings
from homeport.supervised import supervised

RUNNER = ("-m", "homeport.runner")
STARTS_PER_CORE = 2
CONTAINERS_PER_CORE = 32  # what a machine may run at once; memory ends it sooner
TOO_LATE = "the order came too late: its node had been given up meanwhile"


class Agent:
    """Runs containers as processes of this machine; in one class, because the role `Node` is one."""

    def __init__(
        self,
        settings: Settings,
        *,
        name: str = HERE,
        tied: bool = False,
        runner: Sequence[str] = RUNNER,
        accelerators: Callable[[], tuple[Accelerator, ...]] = gpus.find,
    ) -> None:
        self.name = name
        self._changes = Changes()
        self._settings = settings
        self._root = settings.run_dir / "containers"
        self._lib = settings.run_dir / "lib"
        self._environments = Environments(settings.home / "environments")
        self._environments.volumes = settings.volumes_dir
        self._latest = Latest(settings.home / "latest-image")
        self._zygotes: Zygotes | None = None
        self._is_usual = tuple(runner) == RUNNER and sys.platform == "linux"
        needs_zygotes = settings.zygote_mib or settings.isolation != sandboxes.OFF
        if needs_zygotes and self._is_usual:
            self._zygotes = Zygotes(
                settings.home / "preload", self._lib, settings.zygote_mib, on_line=self._note
            )
        self._limits = Limits()
        self._meter = Meter()
        self._shared = Shared(
            environments=self._environments,
            zygotes=self._zygotes,
            limits=self._limits,
            outputs=Outputs(),
            turns=asyncio.Semaphore(STARTS_PER_CORE * (os.cpu_count() or 1)),
            runner=tuple(runner),
            lib=self._lib,
            trusted=Trusted(settings.own_ca, self._lib),
            doors=settings.socket_dir / "doors",
            changed=self._changes.tell,
        )
        self._tied = tied
        self._lifeline: tuple[int, int] | None = None
        self._lives: dict[str, Life] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._is_open = False
        self._pulses: asyncio.Task[None] | None = None
        self._accelerators = accelerators
        self._capacity = Capacity(cores=os.cpu_count() or 1, memory_mib=0)

    def watch(self, changed: Callable[[Change], None], on_line: Callable[[LogLine], None]) -> None:
        """Set the functions that are called with changes and log lines."""
        self._changes.hear, self._shared.on_line = changed, on_line

    def fetch_sources(self, fetch: Callable[[str], Awaitable[None]]) -> None:
        """Await `fetch` with the source tree of each container before it starts; `StartError` fails the start."""
        self._shared.fetch = fetch

    async def open(self) -> None:
        """Lock the run directory, and take over the containers that an earlier server left."""
        for directory in (self._root, self._lib):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            if directory.stat().st_uid != os.getuid():
                raise StorageError(f"{directory} belongs to another user")
            directory.chmod(0o700)
        removing.discard(str(self._settings.socket_dir / "c"))  # of older versions
        # Cells mount these, whether or not an ingress listens there yet.
        for path in (self._settings.calls_socket, self._settings.urls_socket):
            path.parent.mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(self._environments.sweep)
        self._shared.outputs.open()
        taken_over = await asyncio.to_thread(records.sweep, self._root)
        if not taken_over:
            removing.discard(str(self._root.parent / "snapshots"))
        door.sweep(self._shared.doors, [earlier.container.id for earlier in taken_over])
        link = self._lib / "homeport"
        link.unlink(missing_ok=True)
        link.symlink_to(Path(__file__).parents[1])
        # The first zygote's cell needs both; each asks another program.
        await asyncio.gather(
            asyncio.to_thread(self._open_cells, taken_over),
            asyncio.to_thread(sandboxes.prepare, self._settings.isolation),
            asyncio.to_thread(openapi.lay, self._lib),
        )
        if self._tied:
            self._lifeline = os.pipe()
            self._shared.lifeline = self._lifeline[0]
        self._capacity = await asyncio.to_thread(self._measured)
        self._limits.open(
            self._settings.cgroup,
            f"homeport-{hashlib.sha256(str(self._root).encode()).hexdigest()[:8]}",
            [earlier.launch for earlier in taken_over],
            self._running,
            self._kill,
        )
        for container_left in taken_over:
            container = dataclasses.replace(container_left.container, node=self.name)
            self._changes.generation = max(self._changes.generation, container.order.generation)
            self._changes.tell(container)
            life = self._life(container, container_left.launch)
            self._begin(container.id, life, life.go_on(container_left.leader))
        self._pulses = asyncio.create_task(
            supervised("pulses", lambda: pulses.watch(self._patients, self._kill, self._replace)),
            name="pulses",
        )
        self._is_open = True
        await self._warm_first()
        await asyncio.sleep(0)  # so that the zygote starts now, before this process's next work

    async def close(self) -> None:
        """Kill all containers."""
        for life in list(self._lives.values()):
            life.stop(CLOSE_GRACE_S)
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        if self._pulses is not None:
            self._pulses.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._pulses
        await self._environments.close()
        self._shared.outputs.close()
        await self._limits.close()
        if self._zygotes is not None:
            self._zygotes.close()
            await self._zygotes.over()
        if self._shared.cells is not None:
            await asyncio.to_thread(self._shared.cells.sweep, ())
            self._shared.cells.close()
        for descriptor in self._lifeline or ():
            os.close(descriptor)
        self._lifeline = self._shared.lifeline = None
        for directory in (self._root, self._shared.doors):
            removing.discard(str(directory))

    async def prepare(
        self, image: Image, source: str, supplies: Supplies, say: Callable[[str], None]
    ) -> None:
        """Build the image's layers."""
        await self._environments.make(image, source, supplies, say)
        self._warm(image)
        await asyncio.to_thread(self._latest.note, image)

    async def _warm_first(self) -> None:
        """Start the zygote that is needed first, most likely: the one of the image that was asked for last."""
        try:
            self._warm(await asyncio.to_thread(self._latest.read))
        except ImageError:  # it was pruned since
            self._warm(Image())

    def _warm(self, image: Image) -> None:
        if self._zygotes is not None and self._is_open:
            image_made = self._environments.of(image)
            if image_made.entrypoint:  # its containers start in a fresh interpreter
                return
            environ = with_modal(
                environ_of(image, os.environ, image_made.python, image_made.environ), self._lib
            )
            environ |= self._shared.trusted.variables(image_made, environ)
            if self._shared.cells is not None:
                environ = self._shared.cells.environ(environ, image_made)
            self._zygotes.warm(image_made, environ)

    async def environments(self) -> Collection[Environment]:
        """Return all image layers that were built here."""
        return self._environments.all()

    async def build_log(self, key: str) -> str | None:
        """Return what the build of a layer has told."""
        return await self._environments.log(key)

    async def prune(self, keep: Collection[Image]) -> Collection[Environment]:
        """Delete the layers that none of these images needs; return them."""
        return await self._environments.prune(keep)

    async def forget(self, pool: PoolKey) -> None:
        """Release what was kept for the pool's next container."""
        if self._zygotes is not None:
            self._zygotes.forget(pool)

    async def rest(self, unused_s: float) -> None:
        """End the zygotes that were not used for so long."""
        if self._zygotes is not None:
            self._zygotes.rest(unused_s)

    async def start(self, order: StartOrder, environ: Mapping[str, str]) -> None:
        """Begin to start a container."""
        container = Container(
            order=order, state=State.STARTING, node=self.name, started_at=time.time()
        )
        if order.generation < self._changes.generation:
            self._changes.tell(dataclasses.replace(container, state=State.FAILED, reason=TOO_LATE))
            return
        self._changes.tell(container)
        calls = "" if order.function.restrict_modal_access else str(self._settings.calls_socket)
        launch = Launch(order=order, tmp_dir=str(self._root / order.id / "tmp"), calls=calls)
        life = self._life(container, launch)
        self._begin(order.id, life, life.live(environ))

    async def stop(self, container: str, *, grace_s: float | None = None) -> None:
        """Ask a container to end; kill it after its grace time."""
        if life := self._lives.get(container):
            life.stop(grace_s)

    async def execute(
        self, container: str, order: Order, environ: Mapping[str, str]
    ) -> programs.Entered:
        """Run a program in a container, in its cell and with no more rights than it has."""
        if (life := self._lives.get(container)) is None:
            raise NotFound(f"there is no container `{container}`")
        runner = life.process.runner if life.process is not None else None
        if life.container.state is not State.READY or runner is None:
            raise StartError(f"the container `{container}` is not ready: it starts or ends")
        return await programs.run(self._shared, life.launch, runner, order, environ)

    async def fence(self, generation: int) -> None:
        """Stop the containers of earlier generations, and refuse their orders from now on."""
        self._changes.generation = max(self._changes.generation, generation)
        for life in list(self._lives.values()):
            if life.container.order.generation < self._changes.generation:
                life.stop(None)

    async def confirm_held(self, container: str, held: int) -> None:
        """Tell the container that the ingress keeps this many of its slots back."""
        if life := self._lives.get(container):
            life.confirm_held(held)

    async def mark(self) -> Mark:
        """Return the mark of the last change."""
        return self._changes.mark

    async def lives(self) -> bool:
        """Return True: its machine is the one that asks."""
        return True

    async def list(self) -> Listing:
        """Return every container that is not gone, in its last reported state."""
        return self._changes.listing(self._capacity)

    async def usage(self) -> Mapping[str, Usage]:
        """Measure each container that has a process."""
        return await asyncio.to_thread(self._meter.look, self._running())

    def _open_cells(self, earlier_ones: Collection[records.Left]) -> None:
        """Isolate containers if that is wanted and possible; the containers that are `earlier_ones` continue as they are."""
        if not self._is_usual:
            return
        dirs_by_leader = {earlier.leader: earlier.launch.tmp_dir for earlier in earlier_ones}
        self._shared.cells = cells = sandboxes.take_over(self._settings, self._lib, dirs_by_leader)
        if self._zygotes is not None:
            self._zygotes.cells = cells
            self._environments.is_rooted = cells is not None
            self._environments.has_overlay = cells is not None and cells.report.overlay
        if cells is not None:
            cells.networks.guard()
            cells.volumes = self._settings.volumes_dir
            cells.urls = self._settings.urls_socket
            self._limits.disk_mib = cells.disk_mib

    def _measured(self) -> Capacity:
        cells, cores = self._shared.cells, os.cpu_count() or 1
        return Capacity(
            cores=cores,
            places=CONTAINERS_PER_CORE * cores,
            memory_mib=psutil.virtual_memory().total // MIB,
            accelerators=self._accelerators(),
            isolated=cells is not None and cells.report.overlay,
            networks=cells is not None and cells.networks.blocks,
            own_ports=cells is not None and cells.networks.connects,
            has_mounts=cells is not None,
        )

    def _life(self, container: Container, launch: Launch) -> Life:
        name, directory = container.id, self._root / container.id

        def others() -> Iterable[Launch]:
            return (life.launch for key, life in self._lives.items() if key != name)

        return Life(container, launch, directory, self._shared, others=others, gone=self._gone)

    def _begin(self, name: str, life: Life, living: Coroutine[None, None, None]) -> None:
        self._lives[name] = life
        task = self._tasks[name] = asyncio.create_task(living, name=name)
        task.add_done_callback(lambda _task: self._tasks.pop(name, None))

    def _gone(self, life: Life) -> None:
        del self._lives[life.container.id]

    def _running(self) -> Iterable[tuple[int, Launch]]:
        lives = self._lives.values()
        return [(life.process.leader, life.launch) for life in lives if life.process]

    def _patients(self) -> Iterable[tuple[str, Patient]]:
        for name, life in self._lives.items():
            if (patient := life.patient) is not None:
                yield name, patient

    def _kill(self, container: str, what: str) -> None:
        if life := self._lives.get(container):
            life.kill(what)

    def _replace(self, container: str, what: str) -> None:
        if life := self._lives.get(container):
            life.replace(what)

    def _note(self, order: StartOrder, text: str) -> None:
        self._shared.on_line(log_line(order, text, source="system"))
