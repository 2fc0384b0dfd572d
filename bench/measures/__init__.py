"""What is measured, one module each; `--only` takes these names."""

from collections.abc import Callable

from bench.measures import (
    burst,
    calls,
    cold,
    deploy,
    endpoints,
    extra,
    https,
    idle,
    isolation,
    layers,
    machines,
    reload,
    serve,
    standby,
    warm,
    wsgi,
)
from bench.plan import Plan

#: In the order of the report.
ALL: dict[str, Callable[[Plan], None]] = {
    "warm": warm.measure,
    "wsgi": wsgi.measure,
    "cold": cold.measure,
    "layers": layers.measure,
    "isolation": isolation.measure,
    "extra": extra.measure,
    "burst": burst.measure,
    "calls": calls.measure,
    "serve": serve.measure,
    "reload": reload.measure,
    "deploy": deploy.measure,
    "idle": idle.measure,
    "endpoints": endpoints.measure,
    "https": https.measure,
    "standby": standby.measure,
    "machines": machines.measure,
}
