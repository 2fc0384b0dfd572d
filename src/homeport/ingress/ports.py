"""Listening sockets: the control plane holds them, and passes their descriptors to HAProxy.

So no other program can take an endpoint's port, and while HAProxy is replaced, connections wait in
the kernel instead of being refused.
"""

import contextlib
import errno
import socket
from collections.abc import Iterable

from homeport.contract.errors import BadRequest, IngressError, PortTaken

BACKLOG = 4096  # connections that wait in the kernel until HAProxy accepts them
TRIES = 200  # local ports tried after the main one, before the kernel chooses a free port


class Ports:
    """The main port and a supply of local ones."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._sockets: dict[int, socket.socket] = {}
        self._secure = 0  # the port of HTTPS; 0: none
        self._of_nodes: socket.socket | None = None  # for containers of other machines
        self._free: list[int] = []
        self._next = 0

    @property
    def descriptors(self) -> tuple[int, ...]:
        """The descriptors of all listening sockets of plain HTTP, the main port's first."""
        return tuple(
            listener.fileno() for port, listener in self._sockets.items() if port != self._secure
        )

    @property
    def secure(self) -> int | None:
        """The descriptor of the listening socket of HTTPS; None if there is none."""
        return self._sockets[self._secure].fileno() if self._secure else None

    @property
    def of_nodes(self) -> int | None:
        """The descriptor of the listening socket for containers of other machines; None if there is none."""
        return self._of_nodes.fileno() if self._of_nodes is not None else None

    @property
    def of_nodes_port(self) -> int | None:
        """Its number."""
        return int(self._of_nodes.getsockname()[1]) if self._of_nodes is not None else None

    @property
    def count(self) -> int:
        """The number of open ports, with the main port."""
        return len(self._sockets)

    @property
    def free(self) -> int:
        """The number of local ports that no endpoint has."""
        return len(self._free)

    def adopt(
        self, listeners: Iterable[socket.socket], port: int, of_nodes: tuple[str, int] | None = None
    ) -> int:
        """Use an earlier server's sockets; `of_nodes` is the address of the one for containers of other machines.

        Return `port`, or 0 if none of them listens on it.
        """
        for listener in listeners:
            host, number = listener.getsockname()[:2]
            if (host, number) == of_nodes and self._of_nodes is None:
                self._of_nodes = listener
            elif host == self._host and number not in self._sockets:
                self._sockets[number] = listener
            else:
                listener.close()
        if port not in self._sockets:
            self.close()
            return 0
        # The main port's descriptor is the first.
        self._sockets = {port: self._sockets.pop(port), **self._sockets}
        self._free = [number for number in self._sockets if number != port]
        self._next = port + 1
        return port

    def open(self, port: int) -> int:
        """Listen on the main port, 0 for any, and return it. `PortTaken` if another program has it."""
        try:
            number = self._listen(port)
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                raise PortTaken(
                    f"homeport cannot listen on port {port} of {self._host}: {error.strerror}",
                    hint="choose another with `--http-port` or HOMEPORT_HTTP_PORT",
                ) from None
            raise BadRequest(
                f"cannot listen on {self._host}:{port}: {error.strerror}",
                hint="`--host 127.0.0.1` is for this machine alone, `--host 0.0.0.0` for other machines too",
            ) from None
        self._next = number + 1 if port else 0
        return number

    def open_secure(self, port: int) -> int:
        """Listen on the port of HTTPS too, 0 for any, and return it. `PortTaken` if another program has it."""
        if port in self._free:  # an earlier server's
            self._free.remove(port)
            self._secure = port
            return port
        try:
            self._secure = self._listen(port)
        except OSError as error:
            raise PortTaken(
                f"homeport cannot listen on port {port} of {self._host} for HTTPS: {error.strerror}",
                hint="choose another with HOMEPORT_HTTPS_PORT",
            ) from None
        return self._secure

    def open_for_nodes(self, host: str, port: int) -> int:
        """Listen for containers of other machines too, and return the port: another one if a program has this one.

        `BadRequest` if this machine cannot listen there.
        """
        if self._of_nodes is not None:
            before = self._of_nodes.getsockname()[:2]
            if before[0] == host and port in (0, before[1]):
                return int(before[1])
            self._of_nodes.close()
            self._of_nodes = None
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        for number in (port, 0):
            try:
                self._of_nodes = socket.create_server(
                    (host, number), family=family, backlog=BACKLOG
                )
                break
            except OSError as error:
                if error.errno not in (errno.EADDRINUSE, errno.EACCES) or not number:
                    raise BadRequest(
                        f"cannot listen on {host}:{number}: {error.strerror}"
                    ) from None
        assert self._of_nodes is not None
        return int(self._of_nodes.getsockname()[1])

    def keep(self, ports: Iterable[int]) -> None:
        """Listen on ports that endpoints had before; skip a port that another program has now."""
        for port in ports:
            if port not in self._sockets:
                with contextlib.suppress(OSError, OverflowError):
                    self._listen(port)

    def supply(self, count: int) -> list[int]:
        """Listen on `count` more local ports, or on none if that fails; return them."""
        more: list[int] = []
        try:
            for _ in range(count):
                more.append(self._another())
                self._free.append(more[-1])
        except OSError as error:
            self.let_go(more)
            raise IngressError(f"no more local ports can be opened: {error}") from None
        return more

    def let_go(self, ports: Iterable[int]) -> None:
        """Stop listening on ports that no endpoint has."""
        for port in ports:
            if port in self._free:
                self._free.remove(port)
            if (listener := self._sockets.pop(port, None)) is not None:
                listener.close()

    def take(self) -> int:
        """Reserve and return a local port that no endpoint has."""
        return self._free.pop(0)

    def claim(self, port: int) -> bool:
        """Reserve this port for an endpoint; return False if it is not free."""
        if port in self._free:
            self._free.remove(port)
        return port in self._sockets

    def give_back(self, port: int) -> None:
        """Take a port back, because its endpoint was removed."""
        if port in self._sockets and port not in self._free:
            self._free.append(port)

    def close(self) -> None:
        """Stop listening."""
        for listener in self._sockets.values():
            listener.close()
        self._sockets.clear()
        if self._of_nodes is not None:
            self._of_nodes.close()
            self._of_nodes = None
        self._free.clear()

    def _another(self) -> int:
        if self._next:
            first, self._next = self._next, self._next
            for port in range(first, min(first + TRIES, 65536)):
                with contextlib.suppress(OSError):
                    self._next = port + 1
                    return self._listen(port)
        return self._listen(0)

    def _listen(self, port: int) -> int:
        if port in self._sockets:
            raise OSError(errno.EADDRINUSE, "it is in use here")
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listener = socket.create_server((self._host, port), family=family, backlog=BACKLOG)
        number: int = listener.getsockname()[1]
        self._sockets[number] = listener
        return number
