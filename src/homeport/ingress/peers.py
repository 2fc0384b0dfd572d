"""The changes of other machines in the Ingress role: which there are, and the certificate for them."""

import dataclasses
from pathlib import Path

from homeport.contract.errors import IngressError
from homeport.contract.traffic import Peer
from homeport.ingress import certificates, elsewhere
from homeport.ingress.containers import Containers
from homeport.undo import Undo


class Peers(Containers):
    """The part of the role that is about other machines."""

    _cluster: Path  # the directory with the cluster's CA, and the certificate of the control plane

    async def peer(self, node: str, there: Peer | None) -> None:
        """Connect to a machine here from now on; None: forget the machine and its containers."""

        async def change(undo: Undo) -> None:
            if self._picture.peers.get(node) == there:
                return
            if there is not None and not (self._cluster / "control.pem").exists():
                raise IngressError(f"{self._cluster} has no certificate for the nodes")
            if there is None:
                await self._lose_all(node, undo)
            if node in self._picture.peers:
                # The process before the reload makes no checks any more, and would try the old address again and again.
                await self._supervisor.tell(
                    [("set", "server", f"{elsewhere.BACKEND}/{node}", "state", "maint")]
                )
            removed = self._picture.put_peer(node, there, undo)
            # Seldom, and no command changes what the containers there track.
            await self._supervisor.reload()
            for container in removed:
                self._requests.expect_no_more(container)

        await self._whole(f"node {node}", change)

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
            if self._picture.peers:  # else HAProxy has not loaded it
                await self._supervisor.carry_out(certificates.exchanged(elsewhere.PAIR, pem))

        await self._whole("certificate for nodes", change)

    def _link(self, directory: Path) -> None:
        """Let a process with this working directory find the files."""
        if self._picture.peers:
            certificates.link(directory / elsewhere.LINK, self._cluster)
