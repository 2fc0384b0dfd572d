"""The sockets of one container's tunnels: `modal.forward`.

The container makes a socket and sends it with its report. The node gives it an address, as it gives one to a
door, so no container can lead visitors elsewhere; only the container accepts connections at it.
"""

import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

from homeport.contract.container import MAX_TUNNELS, Event, OpenTunnel
from homeport.contract.sizes import DOOR_BACKLOG
from homeport.node import received
from homeport.node.containers import door as doors


class Tunnels:
    """The tunnels that a container has open."""

    def __init__(self, container: str, directory: Path | None) -> None:
        """In a cell, sockets are paths in `directory`; without cells they have abstract names."""
        self._container, self._directory = container, directory
        self._open: dict[str, OpenTunnel] = {}

    @property
    def all(self) -> tuple[OpenTunnel, ...]:
        """The open tunnels, the oldest first."""
        return tuple(self._open.values())

    def hear(self, event: Event, passed: Callable[[], int | None]) -> bool:
        """Open or close a tunnel, as the container asks; return False if nothing has changed.

        `passed` returns the descriptor that has come with the event.
        """
        if event.kind == "closed":
            return self.close(event.tunnel)
        return self.open(event.tunnel, event.port, passed())

    def open(self, name: str, port: int, descriptor: int | None) -> bool:
        """Listen at the socket that the container has sent; return False if that is not possible.

        `ValueError` if it is something that no runner sends: then the container must end.
        """
        if descriptor is None:
            return False
        if len(self._open) < MAX_TUNNELS and name not in self._open and _is_fresh(descriptor):
            listener = socket.socket(fileno=descriptor)
            is_open = self._listen(name, port, listener)
            listener.detach()
            if is_open:
                os.close(descriptor)
                return True
            if _is_fresh(descriptor):  # it is not the container's fault, as on a full disk
                received.close([descriptor])
                return False
        received.close([descriptor])
        raise ValueError("it sends a descriptor that is not a new socket, or too many")

    def close(self, name: str) -> bool:
        """Remove a tunnel's address; return False if there is no such tunnel."""
        tunnel = self._open.pop(name, None)
        if tunnel is None:
            return False
        doors.remove(tunnel.address)
        return True

    def close_all(self) -> None:
        """Remove the addresses of all tunnels: the container has ended."""
        for tunnel in self.all:
            self.close(tunnel.name)

    def _listen(self, name: str, port: int, listener: socket.socket) -> bool:
        address = self._address()
        try:
            listener.bind(doors.path(address))
            listener.listen(DOOR_BACKLOG)
        except OSError:
            doors.remove(address)
            return False
        self._open[name] = OpenTunnel(name=name, port=port, address=address)
        return True

    def _address(self) -> str:
        used_addresses = {tunnel.address for tunnel in self._open.values()}
        if self._directory is None:
            return doors.name(f"{self._container}-tunnel")
        addresses = (
            f"{doors.PATH_SCHEME}{self._directory / self._container}.{number}"
            for number in range(MAX_TUNNELS)
        )
        return next(address for address in addresses if address not in used_addresses)


def _is_fresh(descriptor: int) -> bool:
    """Return whether it is a Unix socket without an address and a peer: user code can send any other."""
    try:
        candidate = socket.socket(fileno=descriptor)
    except OSError:  # it is no socket
        return False
    try:
        if (candidate.family, candidate.type) != (socket.AF_UNIX, socket.SOCK_STREAM):
            return False
        if candidate.getsockname() or candidate.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return False
        with contextlib.suppress(OSError):
            candidate.getpeername()
            return False
        return True
    finally:
        candidate.detach()
