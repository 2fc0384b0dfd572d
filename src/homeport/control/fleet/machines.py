"""The machines that have joined: the port for them, their certificates, and their place among the nodes.

A server without the directory `cluster` in its home imports nothing of `homeport.link`.
"""

import asyncio
import dataclasses
import errno
import json
import logging
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from homeport import private
from homeport.contract.dataclass import dataclass
from homeport.contract.errors import BadRequest, Failure, NodeLost, StorageError
from homeport.contract.roles import Ingress
from homeport.contract.traffic import Peer, Public
from homeport.control.fleet.facts import Facts
from homeport.control.fleet.mirror import Health, Mirror
from homeport.control.fleet.nodes import OWN, Nodes
from homeport.control.fleet.past import Past
from homeport.state import nodes as rows
from homeport.supervised import Tasks, supervised

if TYPE_CHECKING:
    from homeport.link.authority import Authority
    from homeport.link.identity import Identity
    from homeport.link.listener import Listener
    from homeport.link.remote import RemoteNode

VALID_S = 3600.0  # of a join token
END_GRACE_S = 2.0  # as containers of this machine have at the end of the server
END_S = 5.0  # for all of them
LOOK_S = 0.05
MOST_LINES = 10_000  # of an agent's log that wait for a slow reader
ANYWHERE = "192.0.2.1", 9  # RFC 5737: nobody is there, and nothing is sent

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listens:
    """Where machines connect."""

    host: str
    port: int


USUAL = Listens(host="0.0.0.0", port=7600)  # noqa: S104 - other machines have to reach it


class Machines:
    """All of them; nothing is open until the first token is made. One class, because the rows, the port and the mirrors change together."""

    def __init__(
        self,
        home: Path,
        nodes: Nodes,
        joined: rows.Nodes,
        ingress: Ingress,
        networks: str = "",
        shared_volumes: Path | None = None,
        urls: Callable[[], int] = lambda: 0,
        public: Callable[[], Public | None] = lambda: None,
        addresses: tuple[str, ...] = (),
    ) -> None:
        """`networks`: where nodes may have their containers, besides the address that each connects from.

        `shared_volumes`: the directory of volumes that machines may share. `urls` is as in `Welcome`, and `public` as in `Listener`.
        `addresses`: of all machines on which a server of this home may run.
        """
        self.ray_trouble = ""  # why no machine can be asked of Ray (`growing`); empty: nothing is known to be wrong
        self._ingress, self._networks, self._urls, self._public = ingress, networks, urls, public
        self._addresses = addresses
        self._directory, self._sources = home / "cluster", home / "revisions"
        self._nodes, self.rows = nodes, joined
        self._address_file = self._directory / "listens.json"
        self._remotes: dict[str, RemoteNode] = {}
        self._peers: dict[str, Peer] = {}  # where the ingress reaches each machine's containers
        self.facts = Facts(self._remotes, learned=self._learned, peer_of=self._peers.get)
        self._shared_volumes, self._mark = shared_volumes, ""
        #: Whether containers on other machines end with this server: not if it fails, or another one takes over.
        self.ends: Callable[[], bool] = lambda: False
        self._tasks = Tasks()
        self._authority: Authority | None = None
        self._listener: Listener | None = None
        self._listens: Listens | None = None
        self._opening = asyncio.Lock()

    async def open(self) -> None:
        """Open the port that was open before; a server without one continues. After a failure there is a line in the log."""
        await self.rows.load()
        if (saved := self._read()) is None:
            return
        try:
            listens, calls = saved
            host = await asyncio.to_thread(own_of, listens.host, self._addresses)
            await self._open(dataclasses.replace(listens, host=host), calls)
        except (Failure, OSError) as error:
            log.error("no node can connect: %s", error)  # noqa: TRY400 - the text says all

    async def close(self) -> None:
        """Close the port and the connections; before that, end the containers there if they are to end."""
        if self.ends():
            await self._end()
        await self._tasks.close()
        if self._listener is not None:
            await self._listener.close()

    def every(self) -> list[rows.NodeRow]:
        """Return the machines that have joined, by name."""
        return self.rows.all()

    async def token(self, wanted: Listens | None) -> tuple[str, Listens]:
        """Open the port, if it is not open, and return a new token and where to join."""
        from homeport.link import token

        async with self._opening:
            if self._listener is None or self._listens is None:
                await self._open(wanted or USUAL)
        assert self._authority is not None
        assert self._listens is not None
        if wanted is not None and wanted != self._listens and wanted.port:
            raise BadRequest(
                f"nodes connect at {self._listens.host}:{self._listens.port} already",
                hint="leave the address out",
            )
        text, digest = token.make(self._authority.fingerprint)
        await self.rows.add_token(digest, VALID_S)
        return text, self._listens

    async def label(self, name: str, changes: Mapping[str, str]) -> rows.NodeRow:
        """Change labels of a machine, and return it; an empty value removes a label."""
        row = await self.rows.label(name, changes)
        self._nodes.label(name, row.labels)
        return row

    async def log_lines(self, name: str, tail: int, *, follow: bool) -> AsyncIterator[str]:
        """Return the last lines of an agent's own log, and with `follow` those that come; `NodeLost` without a connection."""
        self.rows.get(name)
        remote = self._remotes.get(name)
        if remote is None or not remote.connected.is_set():
            raise NodeLost(
                f"the agent of `{name}` is not connected",
                hint="on that machine, `journalctl -u homeport-node` has its log, or the terminal of `homeport node join`",
            )
        return _lines_of(remote, tail, follow=follow)

    async def drain(self, name: str, *, on: bool) -> None:
        """Start nothing new on a machine, and replace its containers; or take it back into use."""
        await self.rows.drain(name, on=on)
        if name in self._nodes.mirrors:
            await self._nodes.drain(name, on=on)

    async def remove(self, name: str) -> None:
        """Revoke a machine's certificate, and forget the machine; its containers are replaced."""
        await self.rows.remove(name)
        if self._listener is not None:
            self._listener.remove(name)
        self._nodes.remove(name)
        self._remotes.pop(name, None)
        await self._reached(name, None)

    async def _open(self, listens: Listens, calls: int = 0) -> None:
        """Open the ports; `calls` is the wanted one for containers of nodes, 0: the usual one."""
        from homeport.link.authority import Authority
        from homeport.link.listener import Listener

        authority = Authority(self._directory)
        await asyncio.to_thread(authority.open)
        self._authority = authority
        # An agent that comes before its node is known would be sent away for ever.
        for row in self.rows.all():
            if row.name not in self._remotes:
                self._add(row)
        calls = await self._ingress.admit(listens.host, calls or _beside(listens.port))
        listener = Listener(
            authority,
            self.rows,
            node_of=self._remotes.get,
            joined=self._joined,
            reached=self._reached,
            renewed=self._renewed,
            networks=self._networks,
            calls=calls,
            urls=self._urls(),
            public=self._public(),
            addresses=self._addresses,
        )
        try:
            port = await listener.open(listens.host, listens.port)
        except OSError as error:
            raise StorageError(
                f"the port for nodes cannot be opened at {listens.host}:{listens.port}: {error.strerror}"
            ) from None
        if self._shared_volumes is not None:
            from homeport.link import volumes

            self._mark = await asyncio.to_thread(volumes.reported, self._shared_volumes)
        self._listener = listener
        self._listens = Listens(host=listens.host, port=port)
        self._tasks.start("facts", supervised("facts", self.facts.look_again_and_again))
        data = json.dumps({"host": listens.host, "port": port, "calls": calls}).encode()
        await asyncio.to_thread(private.write, self._address_file, data)
        log.info("nodes connect at %s:%d, and their containers at %d", listens.host, port, calls)

    async def _renewed(self) -> None:
        assert self._authority is not None
        pem = await asyncio.to_thread(self._authority.pair.read_text)
        await self._ingress.peer_certificate(pem)

    def _joined(self, node: "Identity") -> None:
        self._add(self.rows.get(node.name))

    def _add(self, row: rows.NodeRow) -> None:
        from homeport.link.identity import Identity
        from homeport.link.remote import RemoteNode
        from homeport.link.seals import Sealer

        assert self._authority is not None
        name, node = row.name, Identity(name=row.name, id=row.id)
        remote = RemoteNode(
            name,
            self._sources,
            Sealer(self._authority.key_of_orders, node.host),
            is_elsewhere=lambda container: self._is_elsewhere(name, container),
        )
        self._remotes[name] = remote
        past = Past(
            generation=row.generation,
            away=row.away,
            note=lambda generation, away: self.rows.note(name, generation, away=away),
        )
        mirror = self._nodes.add(remote, drained=row.drained, past=past, labels=row.labels)

        def came() -> None:
            mirror.look()
            self.facts.wake()

        remote.came = came

    async def _reached(self, name: str, peer: Peer | None) -> None:
        """Let the ingress reach a machine's containers at another address, or not at all."""
        await self._ingress.peer(name, peer)
        if peer is None:
            self._peers.pop(name, None)
        else:
            self._peers[name] = peer

    async def _end(self) -> None:
        """Stop the containers of the machines that answer, and wait a little for their ends."""
        others = [mirror for mirror in self._nodes.mirrors.values() if mirror.name != OWN]
        for mirror in others:
            if mirror.health is Health.READY:
                await _stop_all(mirror)
            else:
                log.warning("the node `%s` does not answer: containers there continue", mirror.name)
        loop = asyncio.get_running_loop()
        until = loop.time() + END_S
        while loop.time() < until and any(
            mirror.containers for mirror in others if mirror.health is Health.READY
        ):
            await asyncio.sleep(LOOK_S)

    def volumes_of(self, name: str) -> str:
        """Return how a machine shares the volumes (`link.volumes.compared`); empty if they are not shared, or it has not said it."""
        fact = self.facts.of(name)
        if fact is None or not self._mark:
            return ""
        from homeport.link import volumes

        return volumes.compared(fact.shared_volumes, self._mark)

    def _learned(self, name: str) -> None:
        """Let a machine have containers with volumes as soon as it shares them, and no more when it does not."""
        remote, mirror = self._remotes[name], self._nodes.mirrors.get(name)
        shares = self.volumes_of(name) == "shared"
        if shares != remote.shares_volumes and mirror is not None:
            remote.shares_volumes = shares
            log.info("the node `%s` %s the volumes", name, "shares" if shares else "does not share")
            mirror.refresh()

    def _is_elsewhere(self, name: str, container: str) -> bool:
        mirror = self._nodes.of(container)
        return mirror is not None and mirror.name != name

    def _read(self) -> tuple[Listens, int] | None:
        try:
            address = json.loads(self._address_file.read_text())
            host, port, calls = address["host"], address["port"], address.get("calls", 0)
            return Listens(host=str(host), port=int(port)), int(calls)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            log.error("no node can connect: %s is damaged", self._address_file)  # noqa: TRY400 - the text says all
            return None


async def _stop_all(mirror: Mirror) -> None:
    for container in list(mirror.containers):
        await mirror.stop(container, END_GRACE_S)


async def _lines_of(remote: "RemoteNode", tail: int, *, follow: bool) -> AsyncIterator[str]:
    """Yield the lines of an agent's log; a reader that is too slow loses some."""
    lines: asyncio.Queue[str | None] = asyncio.Queue()

    def say(piece: str) -> None:
        for line in piece.splitlines():
            if lines.qsize() < MOST_LINES:
                lines.put_nowait(line)

    asking = asyncio.ensure_future(remote.read_log(tail, follow=follow, say=say))
    asking.add_done_callback(lambda _asking: lines.put_nowait(None))
    try:
        while (line := await lines.get()) is not None:
            yield line
        asking.result()
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


def address_of(listens: Listens) -> str:
    """Return an address at which other machines reach this one; empty if this machine knows none."""
    if listens.host not in ("0.0.0.0", "::"):  # noqa: S104 - all addresses
        return listens.host
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(ANYWHERE)
            return str(asking.getsockname()[0])
        except OSError:
            return ""


def own_of(host: str, addresses: Sequence[str]) -> str:
    """Return an address of this machine: `host`, or one of the others if the server that listened there was on another machine."""
    for address in (host, *addresses):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as trial:
            try:
                trial.bind((address, 0))
            except OSError as error:
                if error.errno == errno.EADDRNOTAVAIL:
                    continue
        return address
    return host


def _beside(port: int) -> int:
    """Return the usual port for the containers of nodes that connect at `port`: 7602; 0 for any."""
    return port + 2 if 0 < port < 65534 else 0
