"""The Unix socket by which containers reach the ingress, whatever network they have.

The control plane holds it and passes its descriptor to HAProxy, as it does with ports: while HAProxy is replaced,
connections wait in the kernel. Its directory holds nothing else, because cells mount it whole: so the containers
that outlive a control plane see the socket of the next one, which replaces the file.
"""

import socket
from pathlib import Path

from homeport.contract.errors import IngressError
from homeport.ingress.ports import BACKLOG

FRESH = "fresh.sock"


class Doorway:
    """One such socket. `path` is where containers' connections come to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # Beside the directory: a container must not see it before it answers.
        self._fresh = path.parent.with_name(f"{path.parent.name}-{FRESH}")
        self._listener: socket.socket | None = None
        self._is_shown = False

    @property
    def descriptor(self) -> int:
        """The listening socket's, while it is open."""
        assert self._listener is not None
        return self._listener.fileno()

    def open(self) -> None:
        """Listen, but not at the path yet, where an earlier server's HAProxy may still answer."""
        self._path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._fresh.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        try:
            self._listener.bind(str(self._fresh))
            # A container has other ids than the server. The users of this machine are kept out by the
            # mode of the directory above (`Settings.socket_dir`).
            self._fresh.chmod(0o666)
            self._path.parent.chmod(0o755)
            self._listener.listen(BACKLOG)
        except OSError as error:
            self.close()
            raise IngressError(f"homeport cannot listen at {self._path}: {error}") from None

    def show(self) -> None:
        """Let connections come here, now that HAProxy accepts them and before an earlier server's stops to."""
        if self._is_shown:
            return
        self._fresh.replace(self._path)
        self._is_shown = True

    def close(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            self._fresh.unlink(missing_ok=True)
            if self._is_shown:  # else an earlier server's
                self._path.unlink(missing_ok=True)

    def leave(self) -> None:
        """Let HAProxy continue with the socket, at its path."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            self._fresh.unlink(missing_ok=True)
