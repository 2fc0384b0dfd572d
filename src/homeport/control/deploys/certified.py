"""Joins certificates to deploys: the hosts of live endpoints are those that want a certificate.

Called by `stages`.
"""

from collections.abc import Callable

from homeport.control.certificates import source
from homeport.control.certificates.keeper import Keeper
from homeport.control.certificates.orders import Kind
from homeport.control.certificates.resolving import Resolver
from homeport.control.deploys.deployer import Deployer
from homeport.control.deploys.domains import Domains
from homeport.control.deploys.endpoints import Endpoints
from homeport.control.deploys.parts import Parts
from homeport.control.fleet import owner
from homeport.state.certificates import Certificates

_KINDS = {
    owner.Kind.APP: Kind.MAIN,
    owner.Kind.SESSION: Kind.SESSION,
    owner.Kind.VERSION: Kind.VERSION,
}


def opened(parts: Parts, deployer: Deployer) -> tuple[Keeper | None, Domains]:
    """Return the keeper of certificates, None if none is ordered, and the custom domains."""
    settings = parts.settings
    resolver = Resolver(settings.dns_resolver, settings.public_addresses)
    keeper = None
    if settings.tls == "acme":
        policy = source.policy(settings)
        keeper = Keeper(
            Certificates(parts.store.database),
            parts.ingress,
            source.Acme(settings, parts.ingress, policy, resolver),
            policy,
            lambda: {settings.domain: Kind.MAIN, **wanted(parts.endpoints)},
            is_kept=lambda name: (settings.certificates_dir / f"{name}.pem").is_file(),
        )

    def certificate(host: str) -> str:
        return keeper.state(host).state if keeper is not None else ""

    return keeper, Domains(parts, deployer, resolver, certificate=certificate)


def states(keeper: Keeper | None) -> Callable[[str], tuple[str, str]]:
    """Return what tells a host's certificate's state, and what is wrong with it; nothing without a keeper."""

    def state(host: str) -> tuple[str, str]:
        if keeper is None:
            return "", ""
        told = keeper.state(host)
        return told.state, told.error

    return state


def wanted(endpoints: Endpoints) -> dict[str, Kind]:
    """Return every host that is answered, and how important its certificate is."""
    return {host: _KINDS[holder.kind] for host, holder in endpoints.hosts().items()}
