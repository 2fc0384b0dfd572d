"""Says which hosts need a certificate: those of the live endpoints.

Called by `stages`.
"""

from collections.abc import Callable

from homeport.control.certificates.keeper import Keeper
from homeport.control.certificates.situation import Kind
from homeport.control.deploys.endpoints import Endpoints
from homeport.control.fleet import owner

_KINDS = {
    owner.Kind.APP: Kind.MAIN,
    owner.Kind.SESSION: Kind.SESSION,
    owner.Kind.VERSION: Kind.VERSION,
}


def states(keeper: Keeper | None) -> Callable[[str], tuple[str, str]]:
    """Return the function that gives the state of a host's certificate, and its error; empty texts without a keeper."""

    def state(host: str) -> tuple[str, str]:
        if keeper is None:
            return "", ""
        state_of_host = keeper.state(host)
        return state_of_host.state, state_of_host.error

    return state


def words(keeper: Keeper | None) -> Callable[[str], str]:
    """Return the function that gives the state of a host's certificate as one word."""
    state = states(keeper)
    return lambda host: state(host)[0]


def wanted(endpoints: Endpoints) -> dict[str, Kind]:
    """Return every host that is answered, and how important its certificate is."""
    return {host: _KINDS[holder.kind] for host, holder in endpoints.hosts().items()}
