"""Whoever connects to the nodes' port: with a certificate, with another one, or with none."""

import asyncio
import ssl
from pathlib import Path
from typing import ClassVar

from homeport.link import authority, frames, identity, messages
from homeport.link.identity import Identity
from tests.link.cluster import Cluster


class Peer:
    """One connection, and the messages on it."""

    open: "ClassVar[list[Peer]]" = []

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        Peer.open.append(self)

    def say(self, message) -> None:
        self.writer.write(frames.framed(messages.write(message)))

    async def hear(self, kind: type):
        """Return the next message of this type; others before it are ignored."""
        while True:
            message = messages.read(await frames.read(self.reader, silent_s=30))
            if isinstance(message, kind):
                return message

    async def end(self) -> bool:
        """Return True once the other end has closed the connection."""
        try:
            while await self.reader.read(2**16):
                pass
        except OSError:
            pass
        return True

    def close(self) -> None:
        self.writer.transport.abort()


async def connected(cluster: Cluster, context: ssl.SSLContext, name: str | None = "") -> Peer:
    """Connect by TLS; `name` is the one that the control plane's certificate must have."""
    return Peer(
        *await asyncio.open_connection(
            "127.0.0.1",
            cluster.port,
            ssl=context,
            server_hostname=identity.CONTROL if name == "" else name,
        )
    )


def certified(
    cluster: Cluster, node: Identity, directory: Path, *, days: float = 1.0, by=None
) -> ssl.SSLContext:
    """Return the TLS of a node with a certificate of the cluster's CA, or of the authority `by`."""
    key, csr = authority.request()
    pair = directory / f"{node.name}-{node.id[:4]}-{days}.pem"
    pair.write_bytes(key + (by or cluster.authority).sign(csr, node, days).encode())
    return identity.of_node(cluster.authority.certificate, pair)
