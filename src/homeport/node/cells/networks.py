"""Connects containers that have a network of their own, those with a `web_server`, to the internet.

The container makes its network namespace when it starts, and sends it over a socket; this side moves a cable into it
(as root: veth and a firewall) or starts `pasta` for it (an ordinary user). The answer, one line of JSON, has the
settings that the container makes by itself:

    -> "." + a descriptor of its network namespace, and one of itself
    <- {"cable": 3} | {} | {"error": "…"}
"""

import contextlib
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import threading
from pathlib import Path

from homeport.cell import network
from homeport.cell.base import RESOLVED
from homeport.cell.network import Cable
from homeport.cell.report import Report
from homeport.node.held import Held

PATIENCE_S = 10.0
INTERFACES = Path("/sys/class/net")
CONFIGURED = Path("/etc/resolv.conf")
PID = "network.pid"  # in a container's directory
MOST = 4096

log = logging.getLogger(__name__)


class Networks:
    """The networks of this machine's cells, with the programs that this machine has for them."""

    def __init__(self, report: Report) -> None:
        self.blocks = report.network  # a network of its own is possible, with or without a way out
        self.connects = report.network and (
            _has_cables() if os.getuid() == 0 else _has_pasta(report)
        )
        self._lock = threading.Lock()
        self._gate_is_open = False

    def guard(self) -> None:
        """Keep containers with the machine's network from its cloud's credentials, or log that nothing does. Blocks."""
        if os.getuid() != 0:
            return  # an ordinary user may set up no firewall
        why = "`nft` is missing, or does not work"
        if self.connects:
            try:
                network.guard()
            except OSError as error:
                why = str(error)
            else:
                return
        log.warning(
            "no firewall keeps containers from the credentials of this machine's cloud: %s", why
        )

    def connect(self, directory: Path) -> int:
        """Return a socket for a container, to be closed here once it was handed over; `directory` is the container's."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.settimeout(PATIENCE_S)
        threading.Thread(target=self._serve, args=(ours, directory), daemon=True).start()
        return theirs.detach()

    def _serve(self, ours: socket.socket, directory: Path) -> None:
        with ours, contextlib.suppress(OSError):
            descriptors = socket.recv_fds(ours, 1, 2)[1]
            if not descriptors:
                return
            try:
                answer = self._connected(descriptors, directory)
            except (OSError, IndexError) as error:
                log.warning("a container gets no network: %s", error)
                answer = {"error": str(error)}
            finally:
                for descriptor in descriptors:
                    os.close(descriptor)
            ours.send(json.dumps(answer).encode())

    def _connected(self, descriptors: list[int], directory: Path) -> "dict[str, int | str]":
        if os.getuid() == 0:
            return {"cable": self._lead_cable(descriptors[0])}
        # Not by the descriptor: inside the container's user namespace, `pasta` may not look at this process.
        pid = Held.sent(os.dup(descriptors[1]))
        spaces = f"/proc/{pid.pid}/ns"
        pid.close()
        words = network.helper(f"{spaces}/net", f"{spaces}/user") or []
        words[1:2] = ["--pid", str(directory / PID)]  # it moves to the background once it is ready
        result = subprocess.run(words, capture_output=True, text=True, check=False)
        if result.returncode:
            raise OSError(0, result.stderr.strip() or "it failed", "pasta")
        return {}

    def _lead_cable(self, namespace: int) -> int:
        with self._lock:
            if not self._gate_is_open:
                network.open_gate()
                self._gate_is_open = True
            number = self._lay_cable()
            try:
                network.plug(Cable(number), namespace)
            except OSError:
                network.remove(Cable(number))
                raise
        return number

    def _lay_cable(self) -> int:
        """Make a cable with the first number that is free on this machine, and return the number."""
        names = set(os.listdir(INTERFACES))  # noqa: PTH208 - names are all that is needed
        for number in range(MOST):
            if Cable(number).name in names:
                continue
            with contextlib.suppress(FileExistsError):  # another server has taken it meanwhile
                network.lay(Cable(number))
                return number
        raise OSError(0, f"there are {MOST} cables already", "network")


def end(directory: Path) -> None:
    """End the program that was started for a container's network, because the container has ended."""
    with contextlib.suppress(OSError, ValueError):
        noted = directory / PID
        pid = int(noted.read_text())
        # Not by the program's name: `pasta` becomes `passt.avx2` where the processor has that.
        if os.fsencode(noted) in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
            os.kill(pid, signal.SIGTERM)


def resolvers() -> str:
    """Return the text of /etc/resolv.conf for a cell without this machine's loopback; empty if it needs no change."""
    with contextlib.suppress(OSError):
        text = CONFIGURED.read_text()
        if any(line.startswith("nameserver 127.") for line in text.splitlines()):
            return Path(RESOLVED).read_text()
    return ""


def _has_cables() -> bool:
    """Return whether the firewall was set up: without it, a cell would reach this machine and its neighbours."""
    if shutil.which("nft") is None:
        return False
    words = ["nft", "--check", "--file", "-"]
    result = subprocess.run(
        words, input=network.rules(), text=True, capture_output=True, check=False
    )
    return result.returncode == 0


def _has_pasta(report: Report) -> bool:
    return report.helper == "pasta"
