"""Make orders and launches in one line."""

from homeport.contract.container import Launch, StartOrder
from homeport.contract.manifest import FunctionSpec
from homeport.contract.traffic import PoolKey

OF_ORDER = {"parameters", "source", "urls", "devices", "exit_grace_s"}
OF_LAUNCH = {"tmp_dir", "calls", "ingress", "runner_path", "cgroup", "cores"}


def order(
    id: str = "ta-1", *, app: str = "app", function: str = "f", revision: str = "rv-1", **changes
) -> StartOrder:
    """Return a container's order; `changes` are fields of the order or of its function."""
    mine = {name: changes.pop(name) for name in OF_ORDER & changes.keys()}
    spec = FunctionSpec(**{"name": function, "module": "m", "qualname": function, **changes})
    return StartOrder(
        id=id, pool=PoolKey(app, function, revision), function=spec, **{"source": "/", **mine}
    )


def launch(id: str = "ta-1", **changes) -> Launch:
    """Return a container's launch; `changes` may be fields of the launch, too.

    A path as `calls` is the launch's; a tuple is the function's methods.
    """
    names = OF_LAUNCH & changes.keys()
    if isinstance(changes.get("calls"), tuple):
        names -= {"calls"}
    added = {name: changes.pop(name) for name in names}
    return Launch(order=order(id, **changes), **added)
