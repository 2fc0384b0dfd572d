"""Makes the order by which a node starts a container."""

from homeport.contract.container import EXIT_GRACE_S, StartOrder, without_secrets
from homeport.control.fleet.pool import Pool


def start(pool: Pool, container: str, devices: tuple[str, ...], key: str) -> StartOrder:
    """Return the order to start one more container of a pool; `key` is its environment's."""
    return StartOrder(
        id=container,
        pool=pool.key,
        function=without_secrets(pool.function),
        parameters=pool.parameters,
        source=pool.source,
        urls=pool.urls,
        scope=pool.owner.session_id,
        within=pool.owner.scope,
        key="" if pool.function.restrict_modal_access else key,
        devices=devices,
        exit_grace_s=EXIT_GRACE_S + (pool.function.exit_grace_s or 0.0),
    )
