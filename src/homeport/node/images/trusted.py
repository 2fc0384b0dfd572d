"""Lets programs in containers trust this homeport's own certificates: those of its local CA, or of a private one.

A bundle of the image's CAs and ours is a file that every cell shows anyway, and three variables name it, which OpenSSL
(so Python's `ssl`, httpx and aiohttp), requests and curl read. A variable that the image or a secret sets stays.
"""

import contextlib
import hashlib
import logging
import os
import ssl
import stat
from collections.abc import Mapping
from pathlib import Path

from homeport import beneath
from homeport.node.images.equipment import CERTIFICATES
from homeport.node.images.made import Made

VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
#: Where an image of its own has the CAs that it trusts: of Debian, of Fedora (the second is a link), of Alpine.
PLACES = (*CERTIFICATES, "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem")
MAX_BYTES = 8 * 1024 * 1024
MARK = b"-----BEGIN CERTIFICATE-----"

log = logging.getLogger(__name__)


class Trusted:
    """The bundles, one for each set of CAs."""

    def __init__(self, ours: Path | None, folder: Path) -> None:
        """`ours`: the file with the CA's certificate; None: there is no such CA. `folder` is in every cell."""
        self._ours = ours
        self._folder = folder
        self._stamp: tuple[int, int] = (0, 0)
        self._bundles: dict[str, str] = {}  # image -> path

    def variables(self, image: Made, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the variables of a container of this image that has `environ`; nothing where there is no such CA."""
        if self._ours is None or not (bundle := self._bundle(image)):
            return {}
        # One that is the same as the server's came from there, and its CAs are in the bundle.
        free = [name for name in VARIABLES if environ.get(name, "") in ("", os.environ.get(name))]
        return dict.fromkeys(free, bundle)

    def _bundle(self, image: Made) -> str:
        """Return the path of the image's bundle; empty while there is no CA, or if it cannot be written."""
        assert self._ours is not None
        try:
            status = self._ours.stat()
            if (stamp := (status.st_mtime_ns, status.st_ino)) != self._stamp:
                self._bundles, self._stamp = {}, stamp
            if image.key not in self._bundles:
                self._bundles[image.key] = self._written(image, self._ours.read_bytes())
            return self._bundles[image.key]
        except FileNotFoundError:
            return ""  # the first start makes it
        except OSError as error:
            log.warning("containers do not trust this homeport's CA: %s", error)
            return ""

    def _written(self, image: Made, ours: bytes) -> str:
        own_cas = _of_image(image.lowers) if image.lowers else b""
        text = b"\n".join((own_cas or _of_machine(), ours))
        path = self._folder / f"trusted-{hashlib.sha256(text).hexdigest()[:16]}.pem"
        if not path.exists():
            part = path.with_suffix(f".{os.getpid()}.part")
            part.write_bytes(text)
            part.chmod(0o644)
            part.replace(path)
        return str(path)


def _of_machine() -> bytes:
    """Return the CAs that this machine trusts; httpx's own where the machine has no such file."""
    usual = ssl.get_default_verify_paths()
    named = [os.environ.get("SSL_CERT_FILE", ""), *CERTIFICATES, usual.openssl_cafile]
    for path in filter(None, named):
        with contextlib.suppress(OSError):
            if MARK in (text := Path(path).read_bytes()):
                return text
    import certifi  # comes with httpx

    return Path(certifi.where()).read_bytes()


def _of_image(lowers: tuple[str, ...]) -> bytes:
    """Return the CAs of an image's own files; empty if there are none."""
    for place in PLACES:
        for lower in reversed(lowers):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                text = _read(lower, place.lstrip("/"))
                if MARK in text:
                    return text
                break  # it hides those of the layers below
    return b""


def _read(layer: str, path: str) -> bytes:
    """Return a file of a layer; empty if it is another kind of file, or a link that leads out of the layer."""
    with beneath.closing(os.open(layer, os.O_PATH | os.O_CLOEXEC)) as root:
        try:
            descriptor = beneath.opened(root, path, os.O_RDONLY | os.O_NONBLOCK)
        except PermissionError:
            return b""
    with os.fdopen(descriptor, "rb") as file:
        return file.read(MAX_BYTES) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b""
