"""The sockets of a joined machine at which its containers reach the control plane's ingress, and where that is.

`peer` has them beside its port; `leaving` has the lines of their configuration. The sockets show once it is known where to lead. That is
kept in a file, so that the next agent's HAProxy leads there before the agent is connected.
"""

import contextlib
import logging
import socket
from collections.abc import Callable
from pathlib import Path

from homeport.contract.dataclass import dataclass
from homeport.contract.traffic import Peer
from homeport.ingress import arriving, elsewhere
from homeport.ingress.leaving import Leaving
from homeport.ingress.ports import BACKLOG
from homeport.ingress.sockets import Doorway
from homeport.settings import Settings
from homeport.undo import Undo

LOOPBACK = "127.0.0.1"
SHARE = 4  # containers may have one connection for this many of the ingress's to this machine

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class To:
    """Where the sockets lead."""

    where: str  # HAProxy's address of the control plane's port
    urls: int = 0  # the port of URLs that lead to loopback; 0: none do


class Outward:
    """All of them."""

    def __init__(self, settings: Settings, of_control: str) -> None:
        self._of_control = of_control
        self._calls = Doorway(settings.calls_socket)
        self._urls = Doorway(settings.urls_socket)
        self._loopback: socket.socket | None = None
        self._file = Path()
        self.to: To | None = None
        self.covered: Callable[[int], bool] = lambda _port: False  # visitors come in at a port

    def read(self, file: Path) -> None:
        """Lead where an earlier agent's sockets led, by its file."""
        self._file = file
        with contextlib.suppress(OSError, ValueError):
            where, urls = file.read_text().split()
            self.to = To(where=where, urls=int(urls))

    def adopt(self, listening: socket.socket) -> bool:
        """Use the socket of an earlier agent for the port of URLs; return whether it is that."""
        if self.to is None or listening.getsockname()[:2] != (LOOPBACK, self.to.urls):
            return False
        self._loopback = listening
        return True

    def open(self) -> None:
        """Listen; containers do not see it yet."""
        self._calls.open()
        self._urls.open()
        if self.to is not None:
            self._listen(self.to.urls)

    def turn(self, to: To, undo: Undo) -> None:
        """Lead somewhere else; the next process of HAProxy does."""
        undo.push(setattr, self, "to", self.to)
        self._listen(to.urls)
        self.to = to

    def show(self) -> None:
        """Let containers connect, now that HAProxy leads them on."""
        if self.to is None:
            return
        with contextlib.suppress(OSError):  # a full disk
            self._file.write_text(f"{self.to.where} {self.to.urls}")
        self._calls.show()
        self._urls.show()

    def leaving(self, most: int) -> Leaving | None:
        """Return the values in the configuration; None if it is not known where to lead."""
        if self.to is None:
            return None
        return Leaving(
            calls=self._calls.descriptor,
            urls=self._urls.descriptor,
            loopback=None if self._loopback is None else self._loopback.fileno(),
            where=self.to.where,
            of_control=self._of_control,
            ca=arriving.CA,
            pair=arriving.PAIR,
            most=max(most // SHARE, 1),
        )

    def close(self) -> None:
        """Stop listening."""
        self._calls.close()
        self._urls.close()
        self._let_go()

    def leave(self) -> None:
        """Let HAProxy continue with the sockets."""
        self._calls.leave()
        self._urls.leave()
        self._let_go()

    def _listen(self, port: int) -> None:
        """Listen at the port of URLs on loopback, unless visitors come in there, or another program listens."""
        port = 0 if self.covered(port) else port
        if self._loopback is not None and self._loopback.getsockname()[1] == port:
            return
        self._let_go()
        if not port:
            return
        try:
            self._loopback = socket.create_server((LOOPBACK, port), backlog=BACKLOG)
        except OSError as error:
            log.warning(
                "containers of this machine do not reach URLs at %s:%d: %s",
                *(LOOPBACK, port, error.strerror),
            )

    def _let_go(self) -> None:
        if self._loopback is not None:
            self._loopback.close()
            self._loopback = None


def to(host: str, port: int, urls: int) -> To:
    """Return where the sockets lead, for an IP address and a port of the control plane's machine.

    >>> to("10.0.0.1", 7602, 8000)
    To(where='ipv4@10.0.0.1:7602', urls=8000)
    """
    return To(where=elsewhere.where(Peer(host=host, port=port, name="")), urls=urls)
