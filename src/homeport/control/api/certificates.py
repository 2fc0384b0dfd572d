"""The routes of certificates."""

from homeport.contract.api.certificates import Certificate, CertificateList
from homeport.contract.errors import BadRequest, NotFound
from homeport.contract.permissions import Permission
from homeport.control.api.access import Caller
from homeport.control.api.routing import route
from homeport.control.certificates.keeper import HostState, Keeper
from homeport.control.deploys.endpoints import Endpoints


class Certificates:
    """Shows and renews certificates of the hosts of a caller's apps; an admin of the server sees those of all hosts."""

    def __init__(self, keeper: Keeper | None, endpoints: Endpoints) -> None:
        self._keeper = keeper
        self._endpoints = endpoints

    @route("GET", "/v1/certificates")
    async def every(self, caller: Caller) -> CertificateList:
        """List the hosts with their certificates; none without a source of certificates."""
        states = self._keeper.states() if self._keeper else []
        if not _is_admin(caller):
            own_hosts = self._hosts(caller)
            states = [state for state in states if state.host in own_hosts]
        return CertificateList(certificates=tuple(shown(state) for state in states))

    @route("POST", "/v1/certificates/{host}/renew")
    async def renew(self, caller: Caller, host: str) -> Certificate:
        """Order a host's certificate now, also if its last order failed. The limits of the CA hold."""
        if self._keeper is None:
            raise BadRequest(
                "this server has no HTTPS",
                hint="set HOMEPORT_TLS, and start it again",
            )
        if not _is_admin(caller) and host.lower() not in self._hosts(caller):
            raise NotFound(f"none of your apps answers for `{host[:300]}`")
        return shown(await self._keeper.renew(host.lower()))

    def _hosts(self, caller: Caller) -> set[str]:
        """Return the hosts of apps that the caller sees."""
        hosts = self._endpoints.hosts()
        return {host for host, holder in hosts.items() if caller.sees(holder.scope)}


def _is_admin(caller: Caller) -> bool:
    return caller.is_of_server and Permission.ADMIN in caller.permissions


def shown(state: HostState) -> Certificate:
    """Return a host's certificate as the API has it."""
    return Certificate(
        host=state.host,
        source=state.source,
        state=state.state,
        name=state.name,
        serial=state.serial,
        valid_until=state.not_after,
        renew_at=state.renew_at,
        error=state.error,
        hint=state.hint,
        next_try=state.next_try,
    )
