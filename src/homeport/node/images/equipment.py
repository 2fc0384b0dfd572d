"""The parts of this machine that uv needs in a cell: the program, the indexes, the certificates, the network."""

import os
from collections.abc import Mapping
from pathlib import Path

from homeport.cell.description import Bind
from homeport.contract.dataclass import dataclass
from homeport.node.images import uv

GIVEN = "/run/homeport"  # where a step finds the files that homeport shows to it; no layer has them
CERTIFICATES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt")
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


@dataclass(frozen=True, slots=True, kw_only=True)
class Equipment:
    """Files that a cell shows, and variables that name them."""

    program: str  # uv
    binds: tuple[Bind, ...]
    environ: Mapping[str, str]


def equipment() -> Equipment:
    """Return uv's equipment as this machine has it now."""
    binds = [show(Path(uv.program()), "uv")]
    environ = {**proxies(), **uv.told_in_cell(os.environ)}
    if certificates := _certificates():
        # The CAs that this machine trusts: an index behind a company's own certificate, for example.
        binds.append(show(certificates, "certificates.pem"))
        environ["SSL_CERT_FILE"] = f"{GIVEN}/certificates.pem"
    binds += [Bind(path) for path in uv.local_indexes(os.environ)]
    return Equipment(program=f"{GIVEN}/uv", binds=tuple(binds), environ=environ)


def show(path: Path, name: str) -> Bind:
    """Show a file or directory of homeport's to a step, read-only."""
    return Bind(str(path), f"{GIVEN}/{name}", owned=os.geteuid() == 0)


def proxies() -> dict[str, str]:
    """Return the variables for the way to the network: proxies."""
    return {name: os.environ[name] for name in PROXIES if name in os.environ}


def _certificates() -> Path | None:
    """Return the file with the certificates that this machine trusts; None if there is none."""
    for path in (os.environ.get("SSL_CERT_FILE"), *CERTIFICATES):
        if path and Path(path).is_file():
            return Path(path).resolve()
    return None
