"""docs/reference/metrics.md, from what the server renders."""

import re

from docs.generate.markdown import page as markdown
from docs.generate.markdown import table

from homeport.contract.api.apps import AppState, AppStatus, EndpointStatus, FunctionStatus
from homeport.contract.api.containers import ContainerStatus
from homeport.contract.container import State
from homeport.control.api import metrics
from homeport.control.fleet.census import NodeNumbers

INTRO = """`http://127.0.0.1:4663/metrics` has the numbers of `homeport status` in Prometheus's text format. Only callers
on this machine get them, and only under a host that no endpoint has. Counters count from the server's
start."""
SAMPLE = AppStatus(
    name="app",
    app_id="",
    state=AppState.DEPLOYED,
    reason="",
    version=1,
    created_at=0,
    stopped_at=None,
    endpoints=(
        EndpointStatus(
            tag="function",
            url="",
            local_url="",
            protected=False,
            truncated=False,
            stolen=False,
            containers=1,
            running=0,
            queued=0,
            served=0,
            errors=0,
            cold_starts=0,
            failed_starts=0,
            p50_ms=1,
            p99_ms=1,
        ),
    ),
    functions=(
        FunctionStatus(
            name="function",
            containers=1,
            running=0,
            queued=0,
            served=0,
            errors=0,
            cold_starts=0,
            failed_starts=0,
        ),
    ),
    containers=(
        ContainerStatus(
            id="",
            app="app",
            function="function",
            revision="",
            state=State.READY,
            pid=0,
            started_at=0,
        ),
    ),
)


NODE = NodeNumbers(
    name="here",
    state="ready",
    containers=1,
    places_free=1,
    cores_free=1.0,
    memory_free_mib=1,
    accelerators_free=0,
    round_trip_s=0.001,
)


def page() -> str:
    """The page."""
    text = metrics.render([SAMPLE], [NODE])
    rows = []
    for name, told in re.findall(r"^# HELP (\S+) (.+)$", text, re.MULTILINE):
        kind = re.search(rf"^# TYPE {name} (\S+)$", text, re.MULTILINE)
        labels = re.search(rf"^{name}{{(.+?)}} ", text, re.MULTILINE)
        assert kind
        assert labels
        names = ", ".join(f"`{label}`" for label in re.findall(r'(\w+)="', labels[1]))
        rows.append((f"`{name}`", kind[1], told, names))
    return markdown("Metrics", INTRO, table(("metric", "kind", "meaning", "labels"), rows))
