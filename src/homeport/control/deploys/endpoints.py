"""Routes endpoints in the ingress, and knows the holder of each; each change has its inverse.

Called by `rollout`, `versions` and `deployer`. A holder is a deployed app or a session (its owner), or
an earlier version. The last holder that routed an id has it; a holder that has lost an id to another holder
cannot unroute it.
"""

import logging

from homeport.contract.dataclass import dataclass
from homeport.contract.roles import Ingress
from homeport.contract.traffic import Endpoint
from homeport.control.fleet.covering import Covering, Uncovered
from homeport.control.fleet.owner import Owner
from homeport.state.requests import Place
from homeport.supervised import Tasks, retried
from homeport.undo import Undo

PAST = 10_000  # places that are remembered

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Routed:
    holder: Owner
    endpoint: Endpoint


class Endpoints:
    """The endpoints that are routed now."""

    def __init__(self, ingress: Ingress, certificates: Covering | None = None) -> None:
        """`certificates` get hosts before these answer."""
        self._certificates = certificates or Uncovered()
        self._ingress = ingress
        self._routed: dict[str, _Routed] = {}
        self._places: dict[
            str, Place
        ] = {}  # also of removed endpoints: their last requests are reported later
        self._tasks = Tasks()

    def of(self, holder: Owner) -> list[str]:
        """Return the ids of a holder's endpoints."""
        return [name for name, routed in self._routed.items() if routed.holder == holder]

    def holder(self, endpoint_id: str) -> Owner | None:
        """Return the owner that has the endpoint; None if no owner has it."""
        routed = self._routed.get(endpoint_id)
        return routed.holder if routed else None

    def endpoint(self, endpoint_id: str) -> Endpoint | None:
        """Return the endpoint with that id; None if no owner has it."""
        routed = self._routed.get(endpoint_id)
        return routed.endpoint if routed else None

    def place(self, endpoint_id: str) -> Place | None:
        """Return the app that has the endpoint, or had it last; None if it is unknown."""
        return self._places.get(endpoint_id)

    def hosts(self) -> dict[str, Owner]:
        """Return every host that is answered, with the holder of its endpoint."""
        return {
            host: routed.holder
            for routed in self._routed.values()
            for host in routed.endpoint.hosts
        }

    async def route(self, undo: Undo, holder: Owner, endpoint: Endpoint) -> None:
        """Route the endpoint for this holder."""
        before = self._routed.get(endpoint.id)
        after = _Routed(holder=holder, endpoint=endpoint)
        undo.push(self._put_back, endpoint.id, before)
        self._routed[endpoint.id] = after
        self._remember(holder, endpoint)
        await self._certificates.cover(endpoint.hosts)
        await self._ingress.route(endpoint)

    async def unroute(self, undo: Undo, holder: Owner, endpoint_id: str) -> None:
        """Remove the endpoint from the ingress, if the holder still has it."""
        before = self._routed.get(endpoint_id)
        if before is None or before.holder != holder:
            return
        undo.push(self._put_back, endpoint_id, before)
        del self._routed[endpoint_id]
        await self._ingress.unroute(endpoint_id)

    def _remember(self, holder: Owner, endpoint: Endpoint) -> None:
        place = Place(holder.scope, endpoint.pool.app, endpoint.tag)
        self._places.pop(endpoint.id, None)  # so that it is the newest
        self._places[endpoint.id] = place
        if len(self._places) > PAST:
            forgotten = next((name for name in self._places if name not in self._routed), None)
            if forgotten is not None:
                del self._places[forgotten]

    async def close(self) -> None:
        """Stop trying to put endpoints back."""
        await self._tasks.close()

    async def _put_back(self, endpoint_id: str, before: _Routed | None) -> None:
        """Restore the endpoint's earlier route; if the ingress fails, try again until it works."""
        if before is None:
            self._routed.pop(endpoint_id, None)
        else:
            self._routed[endpoint_id] = before
        try:
            await self._tell(endpoint_id)
        except Exception as error:
            log.warning("cannot put the endpoint `%s` back yet: %s", endpoint_id, error)
            name = f"putting the endpoint `{endpoint_id}` back"
            self._tasks.start(name, retried(name, lambda: self._tell(endpoint_id)))

    async def _tell(self, endpoint_id: str) -> None:
        """Send the ingress the present route, which may have changed since the failure."""
        routed = self._routed.get(endpoint_id)
        if routed is None:
            await self._ingress.unroute(endpoint_id)
        else:
            await self._certificates.cover(routed.endpoint.hosts)
            await self._ingress.route(routed.endpoint)
