"""`python -m homeport.cell.keeper FD`: opens mounts for an ordinary user's node.

An ordinary user may copy a mount only in a user and mount namespace of its own. The keeper is a process
with both, one per server, which still sees all that its user sees. Over a socket (SOCK_SEQPACKET):

    -> {"open": "/home/me/data", "writable": false, "devices": false, "inside": ""}
                                                                          <- {} + the mount, as a descriptor
    -> {"remove": "/home/me/run/cells/4f/1"} + a pipe                     <- {}, and "0" in the pipe at the end
    -> {"measure": "/home/me/run/cells/4f/1"} + a pipe                    <- {}, and its bytes in the pipe
                                                                          <- {"errno", "text", "what"}

The files of a cell may belong to ids that only the keeper has, so it removes and measures them, too: in a
child, because that may take long.

It ends when the socket closes. Root needs no keeper: `Opener` does the same in its own process.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading

from homeport import removing
from homeport.cell import identity, mounts, namespaces, storage

MAX_MESSAGE = 16384


class Opener:
    """Opens mounts for the containers' cells, by a keeper where this process may not."""

    def __init__(self, python: str = sys.executable) -> None:
        """Start the keeper; `OSError` if user namespaces are refused. Root starts none."""
        self._lock = threading.Lock()
        self._python = python
        self._socket: socket.socket | None = None
        self._is_closed = False
        if os.geteuid() != 0:
            self._start()

    def _start(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [self._python, "-P", "-m", "homeport.cell.keeper", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )
        try:
            _answer(*socket.recv_fds(self._socket, MAX_MESSAGE, 1)[:2])
        except OSError:
            self._end()
            raise

    def open(
        self,
        path: str,
        *,
        writable: bool = False,
        users: int = 0,
        devices: bool = False,
        inside: str = "",
    ) -> int:
        """Open a mount as `mounts.opened` does; `users` is for root only."""
        if self._socket is None:
            return mounts.opened(
                path, writable=writable, users=users, devices=devices, inside=inside
            )
        order = {"open": path, "writable": writable, "devices": devices, "inside": inside}
        return self._ask(order, [])[0]

    def remove(self, path: str) -> None:
        """Delete the files that a cell has written, whichever user owns them; return when they are gone."""
        if self._socket is None:
            removing.discard(path)
        else:
            self._in_child("remove", path)

    def measure(self, path: str) -> int:
        """Return how many bytes a cell's files take on the disk."""
        if self._socket is None:
            return storage.measured(path)
        return int(self._in_child("measure", path) or 0)

    def _in_child(self, word: str, path: str) -> bytes:
        reader, writer = os.pipe()
        with open(reader, "rb") as answer:
            try:
                self._ask({word: path}, [writer])
            finally:
                os.close(writer)
            return answer.read()

    def _ask(self, order: dict[str, object], descriptors: list[int]) -> list[int]:
        with self._lock:
            message, received = self._exchanged(order, descriptors)
            if not message and not self._is_closed:  # it was killed, as where memory runs out
                self._end()
                self._start()
                message, received = self._exchanged(order, descriptors)
        _answer(message, received)
        return received

    def _exchanged(
        self, order: dict[str, object], descriptors: list[int]
    ) -> tuple[bytes, list[int]]:
        """Return the keeper's answer and its descriptors; no bytes if it has ended."""
        assert self._socket is not None
        try:
            socket.send_fds(self._socket, [json.dumps(order).encode()], descriptors)
            return socket.recv_fds(self._socket, MAX_MESSAGE, 1)[:2]
        except OSError:
            return b"", []

    def close(self) -> None:
        """End the keeper; mounts that it has opened stay."""
        self._is_closed = True
        if self._socket is not None:
            self._end()

    def _end(self) -> None:
        assert self._socket is not None
        self._socket.close()
        self._process.wait()


def serve(control: socket.socket) -> None:
    """Answer until the other end closes."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no process waits for the children
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, MAX_MESSAGE, 1)
        if not message:
            return
        request = json.loads(message)
        try:
            if "open" in request:
                tree = mounts.opened(
                    request["open"],
                    writable=request["writable"],
                    devices=request["devices"],
                    inside=request["inside"],
                )
                socket.send_fds(control, [b"{}"], [tree])
                os.close(tree)
            else:
                _do_in_child(request, descriptors[0])
                control.send(b"{}")
        except OSError as error:
            _refuse(control, error)
        for descriptor in descriptors:
            os.close(descriptor)


def _do_in_child(request: dict[str, str], writer: int) -> None:
    if os.fork():
        return
    try:
        if "remove" in request:
            removing.discard(request["remove"])
            os.write(writer, b"0")
        else:
            os.write(writer, str(storage.measured(request["measure"])).encode())
    finally:
        os._exit(0)


def _answer(message: bytes, descriptors: list[int]) -> None:
    if not message:
        raise OSError(0, "the keeper has ended", "keeper")
    answer = json.loads(message)
    if answer:
        raise OSError(answer["errno"], answer["text"], answer["what"])
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)


def _refuse(control: socket.socket, error: OSError) -> None:
    failure = {"errno": error.errno, "text": error.strerror, "what": str(error.filename or "")}
    control.send(json.dumps(failure).encode())


def main() -> int:
    """Leave for namespaces of its own, and serve."""
    control = socket.socket(fileno=int(sys.argv[1]))
    try:
        namespaces.leave_for_mounts(identity.subordinate())
    except OSError as error:
        _refuse(control, error)
        return 1
    control.send(b"{}")
    serve(control)
    return 0


if __name__ == "__main__":
    sys.exit(main())
