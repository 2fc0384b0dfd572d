"""`python -m homeport.cell.keeper FD`: opens mounts for an ordinary user's node.

An ordinary user may copy a mount only in a user and mount namespace of its own. The keeper is a process
with both, one per server, which still sees all that its user sees. Over a socket (SOCK_SEQPACKET):

    -> {"path": "/home/me/data", "writable": false}      <- {} + the mount, as a descriptor
                                                         <- {"errno", "text", "what"}

It ends when the socket closes. Root needs no keeper: `Opener` does the same in its own process.
"""

import json
import os
import socket
import subprocess
import sys
import threading

from homeport.cell import mounts, namespaces

MAX_MESSAGE = 16384


class Opener:
    """Opens mounts for the containers' cells, by a keeper where this process may not."""

    def __init__(self, python: str = sys.executable) -> None:
        """Start the keeper; `OSError` if user namespaces are refused. Root starts none."""
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        if os.geteuid() == 0:
            return
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [python, "-m", "homeport.cell.keeper", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        try:
            _answer(*socket.recv_fds(self._socket, MAX_MESSAGE, 1)[:2])
        except OSError:
            self.close()
            raise

    def open(self, path: str, *, writable: bool = False, users: int = 0) -> int:
        """As `mounts.opened`; `users` is for root only."""
        if self._socket is None:
            return mounts.opened(path, writable=writable, users=users)
        with self._lock:
            self._socket.send(json.dumps({"path": path, "writable": writable}).encode())
            message, descriptors, _, _ = socket.recv_fds(self._socket, MAX_MESSAGE, 1)
        _answer(message, descriptors)
        return descriptors[0]

    def close(self) -> None:
        """End the keeper. What it has opened stays."""
        if self._socket is not None:
            self._socket.close()
            self._process.wait()


def serve(control: socket.socket) -> None:
    """Answer until the other end closes."""
    while message := control.recv(MAX_MESSAGE):
        request = json.loads(message)
        try:
            tree = mounts.opened(request["path"], writable=request["writable"])
        except OSError as error:
            _refuse(control, error)
            continue
        socket.send_fds(control, [b"{}"], [tree])
        os.close(tree)


def _answer(message: bytes, descriptors: list[int]) -> None:
    if not message:
        raise OSError(0, "the keeper has ended", "keeper")
    told = json.loads(message)
    if told:
        raise OSError(told["errno"], told["text"], told["what"])
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)


def _refuse(control: socket.socket, error: OSError) -> None:
    what = {"errno": error.errno, "text": error.strerror, "what": str(error.filename or "")}
    control.send(json.dumps(what).encode())


def main() -> int:
    """Leave for namespaces of its own, and serve."""
    control = socket.socket(fileno=int(sys.argv[1]))
    try:
        namespaces.leave_for_mounts()
    except OSError as error:
        _refuse(control, error)
        return 1
    control.send(b"{}")
    serve(control)
    return 0


if __name__ == "__main__":
    sys.exit(main())
