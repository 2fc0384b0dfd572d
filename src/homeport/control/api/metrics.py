"""The numbers of `homeport status` in Prometheus's text format (its docs: exposition formats)."""

from collections.abc import Iterable, Iterator, Sequence

from homeport.contract import api

TYPE = "text/plain; version=0.0.4"
#: Name -> (kind, help, key of an endpoint).
ENDPOINT = {
    "homeport_requests_total": ("counter", "Requests that have been answered.", "served"),
    "homeport_errors_total": ("counter", "Requests answered with 5xx.", "errors"),
    "homeport_cold_starts_total": ("counter", "Containers that became ready.", "cold_starts"),
    "homeport_failed_starts_total": ("counter", "Containers that did not.", "failed_starts"),
    "homeport_running": ("gauge", "Requests inside containers.", "running"),
    "homeport_queued": ("gauge", "Requests that wait for one.", "queued"),
}
QUANTILES = {"0.5": "p50_ms", "0.99": "p99_ms"}


def render(apps: Sequence[api.AppStatus]) -> str:
    """One page of metrics."""
    return "\n".join([*_endpoints(apps), *_quantiles(apps), *_containers(apps), ""])


def _endpoints(apps: Sequence[api.AppStatus]) -> Iterator[str]:
    for name, (kind, told, key) in ENDPOINT.items():
        yield from _head(name, kind, told)
        for app, endpoint in _each(apps):
            yield f"{name}{_labels(app=app, endpoint=endpoint.tag)} {getattr(endpoint, key)}"


def _quantiles(apps: Sequence[api.AppStatus]) -> Iterator[str]:
    name = "homeport_request_duration_seconds"
    yield from _head(name, "summary", "How long requests took in the last minutes.")
    for app, endpoint in _each(apps):
        for quantile, key in QUANTILES.items():
            if (ms := getattr(endpoint, key)) is not None:
                labels = _labels(app=app, endpoint=endpoint.tag, quantile=quantile)
                yield f"{name}{labels} {ms / 1000}"


def _containers(apps: Sequence[api.AppStatus]) -> Iterator[str]:
    name = "homeport_containers"
    yield from _head(name, "gauge", "Containers by their state.")
    counts: dict[str, int] = {}
    for app in apps:
        for container in app.containers:
            labels = _labels(app=app.name, function=container.function, state=container.state.value)
            counts[labels] = counts.get(labels, 0) + 1
    yield from (f"{name}{labels} {count}" for labels, count in counts.items())


def _head(name: str, kind: str, told: str) -> list[str]:
    return [f"# HELP {name} {told}", f"# TYPE {name} {kind}"]


def _each(apps: Sequence[api.AppStatus]) -> Iterable[tuple[str, api.EndpointStatus]]:
    return ((app.name, endpoint) for app in apps for endpoint in app.endpoints)


def _labels(**labels: str) -> str:
    def escaped(value: str) -> str:
        return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

    return "{" + ",".join(f'{key}="{escaped(value)}"' for key, value in labels.items()) + "}"
