"""The paths below a home: every process of one homeport finds the others' files and sockets by them."""

import hashlib
import os
import re
from pathlib import Path

MAX_SOCKET_DIR = 70  # bytes; leaves 37 for names such as `/c/ta-….sock`


class Places:
    """What a home's path alone decides; `Settings` has the rest."""

    __slots__ = ()
    home: Path

    @property
    def certificates_dir(self) -> Path:
        """The certificates that the ingress answers with, and their keys; mode 0700."""
        return self.home / "certificates"

    @property
    def local_ca(self) -> Path:
        """The certificate of the local CA, for `tls = local`; its key is beside it."""
        return self.home / "local-ca" / "ca.pem"

    @property
    def run_dir(self) -> Path:
        """The directory for sockets, maps and pid files, which are useless after the server's end."""
        return self.home / "run"

    @property
    def socket_dir(self) -> Path:
        """The directory of Unix sockets; mode 0700.

        A socket's path has room for 107 bytes (man 7 unix), and blanks and quotes mean something in
        HAProxy's configuration. So a home with a long or an unusual path gets a directory with a short and
        plain path. It is not in TMPDIR, because every command must find the same directory.
        """
        plain = re.fullmatch(r"[A-Za-z0-9/._~+@-]+", str(self.run_dir)) is not None
        if plain and len(os.fsencode(self.run_dir)) <= MAX_SOCKET_DIR:
            return self.run_dir
        digest = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:12]
        return Path("/tmp") / f"homeport-{os.getuid()}-{digest}"  # noqa: S108 - its owner is checked

    @property
    def control_socket(self) -> Path:
        """The socket of the control plane's API."""
        return self.socket_dir / "control.sock"

    @property
    def calls_socket(self) -> Path:
        """The socket of the ingress for containers. Its directory, which they see, has nothing else in it."""
        return self.socket_dir / "calls" / "calls.sock"

    @property
    def inside_socket(self) -> Path:
        """The socket on which the ingress passes on the requests of containers to the control plane."""
        return self.socket_dir / "inside.sock"

    @property
    def remote_socket(self) -> Path:
        """The socket on which the ingress passes on the requests of commands on other machines to the control plane."""
        return self.socket_dir / "remote.sock"

    @property
    def urls_socket(self) -> Path:
        """The socket of the ingress on which containers with a network of their own reach URLs."""
        return self.socket_dir / "urls" / "urls.sock"

    @property
    def activator_socket(self) -> Path:
        """The socket on which the ingress asks for a container."""
        return self.socket_dir / "activator.sock"
