"""Returns the keeper of certificates that the settings ask for, and the tunnels that it serves. Called by `stages`.

A server without TLS does not import X.509, which is a twelfth of its imports.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from homeport.contract.roles import Ingress
from homeport.control.certificates.keeper import Keeper
from homeport.control.certificates.resolving import Resolver
from homeport.control.certificates.situation import Kind
from homeport.control.certificates.source import Source
from homeport.control.fleet.tunnels import Tunnels
from homeport.settings import Settings
from homeport.state.certificates import Certificates
from homeport.state.environments import Environments


class Listening(Ingress, Protocol):
    """An ingress that is open."""

    @property
    def http_port(self) -> int:
        """The port of HTTP."""

    @property
    def https_port(self) -> int:
        """The port of HTTPS; 0 without TLS."""


def opened(
    settings: Settings, rows: Certificates, ingress: Ingress, resolver: Resolver
) -> Keeper | None:
    """Return the keeper, which wants a certificate for homeport's own domain; None without TLS."""
    source = _source(settings, ingress, resolver)
    if source is None:
        return None

    def stored() -> Mapping[str, Path]:
        return {path.stem: path for path in settings.certificates_dir.glob("*.pem")}

    keeper = Keeper(rows, ingress, source, stored=stored)
    keeper.wants(lambda: {settings.domain: Kind.MAIN})
    return keeper


def tunnels(
    settings: Settings, ingress: Listening, keeper: Keeper | None, environments: Environments
) -> Tunnels:
    """Return the tunnels, whose hosts have certificates if they can."""
    secure = settings.tunnels_have_tls

    def address() -> tuple[str, int]:
        return ("https", ingress.https_port) if secure else ("http", ingress.http_port)

    new = Tunnels(ingress, settings.domain, address, keeper, alone=lambda: environments.is_alone)
    if keeper is not None and secure:
        keeper.wants(lambda: dict.fromkeys(new.hosts(), Kind.SESSION))
    return new


def _source(settings: Settings, ingress: Ingress, resolver: Resolver) -> Source | None:
    if settings.tls == "acme":
        from homeport.control.certificates.acme.source import Acme

        return Acme(settings, ingress, resolver)
    if settings.tls == "files":
        from homeport.control.certificates.files import Files

        return Files(settings.tls_dir)
    if settings.tls == "local":
        from homeport.control.certificates.issuing import Issuing
        from homeport.control.certificates.local import Local

        return Issuing(Local(settings.local_ca, settings.domain), settings.domain)
    return None
