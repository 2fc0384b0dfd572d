"""Makes the order by which a node starts a container."""

from homeport.contract.container import EXIT_GRACE_S, StartOrder, without_secrets
from homeport.contract.manifest import FunctionSpec
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
        key=_key_for(pool.function, key),
        devices=devices,
        exit_grace_s=EXIT_GRACE_S + (pool.function.exit_grace_s or 0.0),
    )


def is_current(order: StartOrder, key: str) -> bool:
    """Return whether a container that was started by this order has the key of its environment.

    Without it the container can call nothing. A server from before there were environments gave none.
    """
    return order.key == _key_for(order.function, key)


def _key_for(function: FunctionSpec, key: str) -> str:
    return "" if function.restrict_modal_access else key
