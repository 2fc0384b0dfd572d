"""HAProxy on a joined machine: one port that leads the control plane's ingress to the machine's containers, by mTLS.

`node/__main__` has one beside its agent. HAProxy outlives an agent that is killed, and the next one takes the listening
socket over, as the ingress does. The configuration is `arriving`.
"""

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Collection, Mapping
from pathlib import Path

from homeport.contract.errors import IngressError, PortTaken
from homeport.contract.traffic import Public
from homeport.ingress import arriving, certificates, entering, leaving, outward, process
from homeport.ingress.arriving import CONTAINERS, Arriving
from homeport.ingress.backends import Supply
from homeport.ingress.entering import Entering
from homeport.ingress.inward import Inward
from homeport.ingress.maps import Maps
from homeport.ingress.outward import Outward
from homeport.ingress.picture import restore
from homeport.ingress.ports import BACKLOG
from homeport.ingress.publisher import Changes
from homeport.ingress.runtime import Command
from homeport.ingress.supervisor import Supervisor
from homeport.settings import Settings
from homeport.supervised import Tasks, supervised
from homeport.undo import Undo

FIRST_BACKENDS = 64
LIVES_S = 0.5  # for a machine to take a connection
AGAIN_S = 5.0  # between two tries to open a port that another program has
PORT = 7601

log = logging.getLogger(__name__)


class PeerPort(Changes):
    """The port, and the containers that are reached by it; what leaves the machine, and visitors who come in.

    One class, because all of that is one configuration of one process, which changes whole or not at all.
    """

    def __init__(self, settings: Settings, of_control: str) -> None:
        """`of_control`: the name in the control plane's certificate."""
        maps = Maps(settings.run_dir / "ingress", (CONTAINERS,))
        supervisor = Supervisor(
            settings,
            maps,
            tied=False,
            describe=self._describe,
            first=lambda: (),
            on_begun=lambda _control: self._outward.show(),
            containers=lambda: (),
            listed=self._linked,
            render=arriving.render,
            files=("gone.lua",),
        )
        super().__init__(maps, supervisor)
        self._settings, self._of_control = settings, of_control
        self._cluster = settings.home / "cluster"
        self._supply = Supply(arriving.BACKEND, FIRST_BACKENDS)
        self._servers: dict[str, tuple[str, str]] = {}  # backend -> label, address
        self._listener: socket.socket | None = None
        self._outward, self._inward = Outward(settings, of_control), Inward()
        self._outward.covered = self._inward.covers
        self._tasks = Tasks()
        self.port = 0

    @property
    def pid(self) -> int:
        """The id of the process that accepts connections; 0 while no process does."""
        return self._supervisor.pid

    async def open(self, port: int | None = None) -> int:
        """Listen; return the port. None: the usual one, or the one before, or any if another program has that."""
        self._supervisor.binary = await asyncio.to_thread(process.find, self._settings.haproxy)
        await asyncio.to_thread(self._take_over, port)
        return self.port

    async def start(self) -> None:
        """Start HAProxy; one that an earlier agent left finishes its connections and ends."""
        await self._supervisor.open()
        self._inward.keep()
        self._tasks.start("ports for visitors", supervised("ports for visitors", self._try_again))

    async def close(self) -> None:
        """End HAProxy and stop listening."""
        await self._tasks.close()
        await self._supervisor.close()
        self._outward.close()
        self._inward.close()
        self._stop_listening()

    async def leave(self) -> None:
        """Let HAProxy continue without this process."""
        await self._tasks.close()
        await self._supervisor.leave()
        self._outward.leave()
        self._inward.close()
        self._stop_listening()

    async def lead(self, containers: Mapping[str, str]) -> None:
        """Lead to exactly these containers from now on: a label -> an address, `abstract:NAME` or `unix:PATH`."""
        wanted = {
            label: address.replace("unix:", "unix@", 1).replace("abstract:", "abns@", 1)
            for label, address in containers.items()
        }
        if wanted == dict(self._servers.values()):
            return

        async def change(undo: Undo) -> None:
            while len(self._supply.free) <= len(wanted):
                self._supply.double()
                if len(self._supply.free) > len(wanted):
                    await self._supervisor.reload()
            ended = self._forget(wanted, undo)
            added, used = await self._add(wanted, undo)
            await self._supervisor.tell([*added, *used, *self._maps.commands(), *ended])

        await self._whole("containers", change)

    async def towards(
        self, host: str, port: int, urls: int, visitors: Public | None = None
    ) -> None:
        """Lead this machine's containers, and visitors who come in here, to this IP address and port of the control plane.

        `urls` is as in `Welcome`; `visitors`: where they come in, None: nowhere.
        """
        wanted = outward.to(host, port, urls)
        visitors = visitors if self._settings.entrance == "on" else None
        if (wanted, visitors) == (self._outward.to, self._inward.at):
            return

        async def change(undo: Undo) -> None:
            # The process that is about to retire still has visitors who wait.
            if (before := self._entering()) is not None and (at := self._supervisor.runtime):
                with contextlib.suppress(IngressError):  # it has ended, and nobody waits in it
                    await at.ask(*entering.moved(before, host, port))
            self._inward.want(visitors)
            self._outward.turn(wanted, undo)
            self._inward.listen()
            await self._supervisor.reload()
            self._inward.keep()

        await self._whole("way to the control plane", change)

    @property
    def entrance(self) -> tuple[tuple[int, ...], Mapping[int, str]]:
        """The ports where visitors come in, and why others cannot be opened."""
        return self._inward.ports, self._inward.trouble

    @property
    def way(self) -> tuple[str, int] | None:
        """The address of the control plane to which this machine's containers are led; None: to nowhere."""
        if self._outward.to is None:
            return None
        kind_and_host, _, port = self._outward.to.where.rpartition(":")
        return kind_and_host.partition("@")[2], int(port)

    async def part(self) -> None:
        """End the connections of visitors that were led on: the control plane's machine is gone. Those that wait for it stay."""
        if self._inward.ports:
            await self._part(entering.BACKENDS)

    async def part_callers(self) -> None:
        """End the calls, and the requests to URLs, of this machine's containers that were led on."""
        await self._part(leaving.BACKENDS)

    async def _part(self, backends: Collection[str]) -> None:
        async def change(_undo: Undo) -> None:
            self._supervisor.end_retired()  # whatever they have comes from that machine, or goes there
            if (runtime := self._supervisor.runtime) is not None:
                await runtime.end(entering.led_on(await runtime.ask(("show", "sess")), backends))

        await self._whole("end of connections to the control plane", change)

    async def answers(self) -> bool:
        """Return whether the control plane's machine answers; True also if nothing listens there."""
        if (way := self.way) is None:
            return True
        try:
            async with asyncio.timeout(LIVES_S):
                _, writer = await asyncio.open_connection(*way)
        except ConnectionRefusedError:
            return True
        except OSError:  # a TimeoutError is one
            return False
        writer.transport.abort()
        return True

    async def _try_again(self) -> None:
        """Open the ports for visitors that another program had."""

        async def change(_undo: Undo) -> None:
            if self._inward.listen():
                await self._supervisor.reload()

        while True:
            await asyncio.sleep(AGAIN_S)
            if self._inward.trouble:
                await self._whole("ports for visitors", change)

    async def renewed(self, pem: bytes) -> None:
        """Show this certificate from now on; `pem` has its private key too."""

        async def change(_undo: Undo) -> None:
            steps = certificates.exchanged(arriving.PAIR, pem.decode("ascii"))
            await self._supervisor.carry_out(steps)

        await self._whole("certificate", change)

    def _forget(self, wanted: Mapping[str, str], undo: Undo) -> list[Command]:
        """Forget all other containers; return the commands. Their connections have ended with them."""
        commands: list[Command] = []
        for backend, (label, address) in list(self._servers.items()):
            if wanted.get(label) == address:
                continue
            self._maps.put(CONTAINERS, label, None)
            undo.push(restore, self._servers, backend, self._servers.pop(backend))
            self._supply.free.append(backend)
            undo.push(self._supply.free.remove, backend)
            where = f"{backend}/{label}"
            commands += [
                ("set", "server", where, "state", "maint"),
                ("shutdown", "sessions", "server", where),
            ]
        return commands

    async def _add(
        self, wanted: Mapping[str, str], undo: Undo
    ) -> tuple[list[Command], list[Command]]:
        """Give each new container a backend; return the commands that add servers, and those that use them."""
        labels = {label for label, _address in self._servers.values()}
        added, used = list[Command](), list[Command]()
        for label, address in wanted.items():
            if label in labels:
                continue
            backend = await self._clean(undo)
            undo.push(restore, self._servers, backend, None)
            self._servers[backend] = label, address
            self._maps.put(CONTAINERS, label, backend)
            where = f"{backend}/{label}"
            added.append(("add", "server", where, *arriving.words(address)))
            used += [("enable", "server", where), ("enable", "health", where)]
        return added, used

    async def _clean(self, undo: Undo) -> str:
        """Take a free backend, and delete the server of an ended container that is still in it."""
        backend = self._supply.free.pop(0)
        undo.push(self._supply.free.insert, 0, backend)
        if (runtime := self._supervisor.runtime) is not None:
            for row in await runtime.stats([backend]):
                if row.server not in ("BACKEND", arriving.NOBODY):
                    await self._supervisor.tell([("del", "server", f"{backend}/{row.server}")])
        return backend

    def _take_over(self, port: int | None) -> None:
        """Take over an earlier agent's socket; if that is impossible, end its HAProxy."""
        file = self._supervisor.directory / "port"
        try:
            before = int(file.read_text())
        except (OSError, ValueError):
            before = 0
        self._outward.read(self._supervisor.directory / "outward")
        self._inward.read(self._supervisor.directory / "inward")
        if self._settings.entrance != "on":
            self._inward.want(None)
        old = self._supervisor.take_over()
        if old and before and port in (None, before):
            for listening in old[0].listeners():
                if self._listener is None and listening.getsockname()[1] == before:
                    self._listener = listening
                elif self._outward.adopt(listening) or self._inward.adopt(listening):
                    continue
                else:
                    listening.close()
        if self._listener is not None:
            self._supervisor.adopt(old)
        else:
            for haproxy in old:
                haproxy.kill()
            self._supervisor.clear()
            self._listener = self._listen(port, before)
        self._outward.open()
        self._inward.listen()
        self.port = int(self._listener.getsockname()[1])
        file.write_text(f"{self.port}")

    def _listen(self, port: int | None, before: int) -> socket.socket:
        tries = [port] if port is not None else [before or PORT, 0]
        for number in tries:
            try:
                return _server(number)
            except OSError as error:
                if number == tries[-1]:
                    raise PortTaken(
                        f"port {number} for the control plane's ingress cannot be opened: {error.strerror}",
                        hint="choose another one with `homeport node join --reach HOST:PORT`",
                    ) from None
                log.warning("port %d is taken, so this node uses another one", number)
        raise AssertionError("there is a try")

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _linked(self, directory: Path) -> str:
        """Let a process with this working directory find the certificates; it has no list of them."""
        certificates.link(directory / arriving.LINK, self._cluster)
        return ""

    def _describe(self, control: str) -> Arriving:
        assert self._listener is not None
        return Arriving(
            control=control,
            listener=self._listener.fileno(),
            of_control=self._of_control,
            again=str(self._settings.socket_dir / "gone.sock"),
            most=process.max_connections(),
            backends=self._supply.count,
            servers=self._servers,
            leaving=self._outward.leaving(process.max_connections()),
            entering=self._entering(),
        )

    def _entering(self) -> Entering | None:
        """Return the values for visitors; None if none come in here."""
        if self._outward.to is None or not self._inward.listeners:
            return None
        return Entering(
            listeners=self._inward.listeners,
            directory=str(self._settings.socket_dir),
            where=self._outward.to.where,
            of_control=self._of_control,
            ca=arriving.CA,
            pair=arriving.PAIR,
            most=process.max_connections(),
        )


def _server(port: int) -> socket.socket:
    try:
        return socket.create_server(
            ("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG
        )
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise
    return socket.create_server(("", port), backlog=BACKLOG)  # a machine without IPv6
