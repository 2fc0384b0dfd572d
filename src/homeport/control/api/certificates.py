"""The routes of certificates."""

from homeport.contract.api.certificates import Certificate, CertificateList
from homeport.contract.errors import BadRequest
from homeport.control.api.routing import route
from homeport.control.certificates.keeper import HostState, Keeper


class Certificates:
    """Shows and renews certificates."""

    def __init__(self, keeper: Keeper | None) -> None:
        self._keeper = keeper

    @route("GET", "/v1/certificates")
    async def every(self) -> CertificateList:
        """List the hosts with their certificates; none without a source of certificates."""
        states = self._keeper.states() if self._keeper else []
        return CertificateList(certificates=tuple(shown(state) for state in states))

    @route("POST", "/v1/certificates/{host}/renew")
    async def renew(self, host: str) -> Certificate:
        """Order a host's certificate now, also if its last order failed. The limits of the CA hold."""
        if self._keeper is None:
            raise BadRequest(
                "this server orders no certificates",
                hint="start it with `tls = acme`",
            )
        return shown(await self._keeper.renew(host.lower()))


def shown(state: HostState) -> Certificate:
    """Return what the API tells of a host's certificate."""
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
