"""Answers of a server, for the tests of what commands print of them."""

import dataclasses

from homeport.contract.api.apps import AppState, AppStatus, EndpointStatus, FunctionStatus
from homeport.contract.api.server import Status

COUNTED = (
    "containers", "running", "queued", "served", "errors", "cold_starts", "failed_starts",
)  # fmt: skip
SHOP = AppStatus(
    name="shop", app_id="ap-1", state=AppState.DEPLOYED, reason="", version=1, created_at=1.0,
    stopped_at=None, endpoints=(), containers=(),
)  # fmt: skip
SERVER = Status(
    pid=7, version="1.2", home="/home", host="127.0.0.1", http_port=4663, domain="localhost",
    workspace="me", settings={}, ingress_pid=8, kept=True, started_at=1.0, apps=(),
)  # fmt: skip


def app_status(**changes: object) -> AppStatus:
    """Return the status of a deployed app, with these changes."""
    return dataclasses.replace(SHOP, **changes)


def status(**changes: object) -> Status:
    """Return the status of a server, with these changes."""
    return dataclasses.replace(SERVER, **changes)


def endpoint_status(**changes: object) -> EndpointStatus:
    """Return the status of an endpoint at which nothing has happened yet, with these changes."""
    told = dict.fromkeys(COUNTED, 0)
    flags = dict.fromkeys(("protected", "truncated", "stolen"), False)
    url = "http://me--shop-web.localhost:4663"
    local = "http://127.0.0.1:5000"
    times = {"p50_ms": None, "p99_ms": None}
    return EndpointStatus(
        **{"tag": "web", "url": url, "local_url": local, **told, **flags, **times, **changes}
    )


def function_status(**changes: object) -> FunctionStatus:
    """Return the status of a function at which nothing has happened yet, with these changes."""
    return FunctionStatus(**{"name": "web", **dict.fromkeys(COUNTED, 0), **changes})
