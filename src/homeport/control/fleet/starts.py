"""Makes the record of a cold start from the reconciler's and the node's times."""

from homeport.contract.container import Container
from homeport.control.fleet.member import Member
from homeport.state.coldstarts import ColdStart


def of(container: Container, member: Member, attached_ms: float | None, failed: str) -> ColdStart:
    """Return the record of a start that has ended."""
    timings_ms = {"parked": round(member.parked_s * 1000, 1), **container.timings_ms}
    if attached_ms is not None:
        timings_ms["attached"] = round(attached_ms, 1)
    return ColdStart(
        at=member.begun_at - member.parked_s,
        app=container.order.pool.app,
        function=container.order.pool.function,
        container=container.id,
        revision=container.order.pool.revision,
        origin=container.origin,
        why_fresh=container.why_fresh,
        failed=failed,
        timings_ms=timings_ms,
        imports_ms=container.imports_ms,
        within=container.order.within,
    )
