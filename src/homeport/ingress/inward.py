"""The sockets of a joined machine at which visitors come in: the same ports as the ingress's.

`peer` has them beside its port; `entering` has the lines of their configuration. Which ports those are is kept in a file, so that
visitors come in before the next agent is connected. A port that another program has is tried again and again; the rest of
the machine works without it.
"""

import contextlib
import logging
import os
import socket
from pathlib import Path

from homeport.contract.traffic import Public
from homeport.ingress import entering
from homeport.ingress.ports import BACKLOG

log = logging.getLogger(__name__)


class Inward:
    """All of them."""

    def __init__(self) -> None:
        self._file = Path()
        self._listeners: dict[int, socket.socket] = {}
        self.at: Public | None = None  # None: no visitor comes in here
        self.trouble: dict[int, str] = {}  # port -> why it cannot be opened

    @property
    def ports(self) -> tuple[int, ...]:
        """The open ports."""
        return tuple(self._listeners)

    @property
    def listeners(self) -> dict[str, int]:
        """The descriptors of the open ports, by the kind of connection."""
        if self.at is None:
            return {}
        ports = zip(entering.kinds(self.at.https), (self.at.http, self.at.https), strict=False)
        return {
            kind: self._listeners[port].fileno() for kind, port in ports if port in self._listeners
        }

    def read(self, file: Path) -> None:
        """Listen where an earlier agent did, by its file."""
        self._file = file
        with contextlib.suppress(OSError, ValueError):
            host, http, https = file.read_text().split()
            self.at = Public(host=host, http=int(http), https=int(https))

    def adopt(self, listening: socket.socket) -> bool:
        """Use the socket of an earlier agent; return whether it is one of these."""
        host, port = listening.getsockname()[:2]
        if self.at is None or host != self.at.host or port in self._listeners:
            return False
        if port not in (self.at.http, self.at.https):
            return False
        self._listeners[port] = listening
        return True

    def covers(self, port: int) -> bool:
        """Return whether a port of loopback is, or is to be, one of these."""
        at = self.at
        return at is not None and at.is_everywhere and port in (at.http, at.https)

    def want(self, at: Public | None) -> None:
        """Listen at no other ports than these, and at these after `listen`."""
        before, self.at = self.at, at
        wanted = set() if at is None else {at.http, at.https} - {0}
        is_same = before is not None and at is not None and before.host == at.host
        for port in [port for port in self._listeners if not is_same or port not in wanted]:
            self._listeners.pop(port).close()
        self.trouble = {port: why for port, why in self.trouble.items() if port in wanted}

    def listen(self) -> bool:
        """Open the ports that are not open; return whether one of them is open now."""
        before = self.ports
        if self.at is not None:
            for port in {self.at.http, self.at.https} - {0, *before}:
                self._listen(self.at.host, port)
        return self.ports != before

    def keep(self) -> None:
        """Write the file; a full disk costs the next agent the time until it is connected."""
        with contextlib.suppress(OSError):
            if self.at is None:
                self._file.unlink(missing_ok=True)
            else:
                self._file.write_text(f"{self.at.host} {self.at.http} {self.at.https}")

    def close(self) -> None:
        """Stop listening; HAProxy may continue with the sockets."""
        for listening in self._listeners.values():
            listening.close()
        self._listeners.clear()

    def _listen(self, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            listening = socket.create_server((host, port), family=family, backlog=BACKLOG)
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else str(error)
            if self.trouble.get(port) != why:
                log.warning("visitors cannot come in at %s, port %d: %s", host, port, why)
            self.trouble[port] = why
            return
        log.info("visitors come in at %s, port %d", host, port)
        self._listeners[port] = listening
        self.trouble.pop(port, None)
