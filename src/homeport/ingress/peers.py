"""The changes of other machines in the Ingress role: which there are, the certificate for them, and the port for them."""

import contextlib
import dataclasses
import logging
from pathlib import Path

from homeport.contract.errors import IngressError
from homeport.contract.traffic import Peer
from homeport.ingress import certificates, elsewhere, nodes
from homeport.ingress.containers import Containers
from homeport.ingress.ports import Ports
from homeport.undo import Undo

PORT_FILE = "nodes-port"  # in HAProxy's working directory: the address of the port for nodes

log = logging.getLogger(__name__)


class Peers(Containers):
    """The part of the role that is about other machines."""

    _cluster: Path  # the directory with the cluster's CA, and the certificate of the control plane
    _ports: Ports
    _admits = False  # whether containers of other machines may connect
    _is_public = False  # visitors may come in at other machines too

    async def peer(self, node: str, there: Peer | None) -> None:
        """Connect to a machine here from now on; None: forget the machine and its containers."""

        async def change(undo: Undo) -> None:
            before = self._picture.peers.get(node)
            if before == there:
                return
            if there is not None:
                self._check_pair()
            if there is None:
                await self._lose_all(node, undo)
            if before is not None and (there is None or there.id != before.id):
                await self._hang_up(node, before)
            if before is not None:
                # The process before the reload makes no checks any more, and would try the old address again and again.
                await self._supervisor.tell(
                    [("set", "server", f"{elsewhere.BACKEND}/{node}", "state", "maint")]
                )
            removed = self._picture.put_peer(node, there, undo)
            if self._admits and before is not None and (there is None or there.id != before.id):
                await self._shut_out(node)
            # Seldom, and no command changes what the containers there track.
            await self._supervisor.reload()
            for container in removed:
                self._requests.expect_no_more(container)

        await self._whole(f"node {node}", change)

    async def admit(self, host: str, port: int) -> int:
        """Listen for the containers of other machines from now on; return the port."""

        async def change(_undo: Undo) -> int:
            self._check_pair()
            number = self._ports.open_for_nodes(host, port)
            if number != port != 0:
                log.warning(
                    "port %d is taken, so containers of other machines connect at %d", port, number
                )
            with contextlib.suppress(OSError):
                # A full disk: the next server listens at another port.
                (self._supervisor.directory / PORT_FILE).write_text(f"{host} {number}")
            self._admits = True
            await self._supervisor.reload()
            return number

        return await self._whole("port for nodes", change)

    async def _shut_out(self, node: str) -> None:
        """Let the process before a reload take nothing of a machine any more, and end its connections."""
        ends = [
            ("shutdown", "sessions", "server", f"{backend}/{node}") for backend in self._led_to()
        ]
        await self._supervisor.tell([*self._maps.commands(), *ends])

    def _led_to(self) -> tuple[str, ...]:
        """Return the backends to which the port for nodes leads."""
        visitors = nodes.TO_VISITORS.values() if self._is_public else ()
        tls = self._ports.secure is not None
        return (nodes.TO_CALLS, nodes.TO_URLS, *list(visitors)[: 1 + tls])

    async def _hang_up(self, node: str, there: Peer) -> None:
        """End what the processes of earlier reloads have with a machine: no command reaches them, and a stream may last long."""
        others = self._picture.peers.items()
        is_shared = any(name != node and peer.host == there.host for name, peer in others)
        own_port = self._ports.of_nodes_port if self._admits and not is_shared else None
        await self._supervisor.hang_up(there.host, there.port, own_port)

    async def _lose_all(self, node: str, undo: Undo) -> None:
        """End the requests in a machine's containers: the process before a reload would continue with them."""
        for pool, backend in self._picture.pools.items():
            for server in list(backend.servers.values()):
                if server.there is not None and server.there.node == node:
                    after = dataclasses.replace(server, draining=True)
                    self._picture.put_server(backend, after, undo)
                    await self._shut(pool, backend, server.name)
                    where = f"{backend.backend}/{server.name}"
                    await self._supervisor.tell([("shutdown", "sessions", "server", where)])

    async def peer_certificate(self, pem: str) -> None:
        """Show this certificate to other machines from now on."""

        async def change(_undo: Undo) -> None:
            if self._has_pair:  # else HAProxy has not loaded it
                await self._supervisor.carry_out(certificates.exchanged(elsewhere.PAIR, pem))

        await self._whole("certificate for nodes", change)

    @property
    def _has_pair(self) -> bool:
        """Whether the configuration names the certificate for other machines."""
        return self._admits or bool(self._picture.peers)

    def _check_pair(self) -> None:
        if not (self._cluster / "control.pem").exists():
            raise IngressError(f"{self._cluster} has no certificate for the nodes")

    def _link(self, directory: Path) -> None:
        """Let a process with this working directory find the files, if there are any."""
        certificates.link(directory / elsewhere.LINK, self._cluster)

    def _before(self) -> tuple[str, int] | None:
        """Return the address of an earlier server's port for nodes; None if it had none."""
        try:
            host, port = (self._supervisor.directory / PORT_FILE).read_text().split()
            return host, int(port)
        except (OSError, ValueError):
            return None
