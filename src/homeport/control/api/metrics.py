"""`/metrics`: the numbers of `homeport status` in Prometheus's text format, written by prometheus_client.

Nothing is counted here. A collector reads the control plane's numbers when the page is requested, so other
requests are not slower. Import this module in a thread: prometheus_client takes 75 ms to import.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from homeport.contract.api.apps import AppStatus
from homeport.contract.sizes import MIB
from homeport.control.fleet.census import NodeNumbers

TYPE = CONTENT_TYPE_LATEST
#: Name -> (kind, help, field of a function). A counter's sample is called `…_total`.
FUNCTION = {
    "homeport_requests": ("counter", "Requests that the function has answered.", "served"),
    "homeport_errors": ("counter", "Requests answered with 5xx.", "errors"),
    "homeport_cold_starts": ("counter", "Containers that became ready.", "cold_starts"),
    "homeport_failed_starts": ("counter", "Containers that did not.", "failed_starts"),
    "homeport_running": ("gauge", "Requests inside containers.", "running"),
    "homeport_queued": ("gauge", "Requests that wait for one.", "queued"),
}
QUANTILES = {"0.5": "p50_ms", "0.99": "p99_ms"}
#: Name -> (help, field of a node, how many of the metric's unit one of the field's is).
NODE = {
    "homeport_node_containers": ("Containers that the node runs.", "containers", 1),
    "homeport_node_free_places": ("Containers that it may run besides.", "places_free", 1),
    "homeport_node_free_cores": ("Cores that no container asks for.", "cores_free", 1),
    "homeport_node_free_memory_bytes": ("Memory that no container asks for.", "memory_free_mib", MIB),
    "homeport_node_free_gpus": ("GPUs that no container has.", "accelerators_free", 1),
    "homeport_node_round_trip_seconds": ("How long its agent took for the last beat.", "round_trip_s", 1),
}  # fmt: skip


def render(apps: Sequence[AppStatus], nodes: Sequence[NodeNumbers] = ()) -> str:
    """Return one page of metrics; its media type is `TYPE`."""
    registry = CollectorRegistry()  # not the default one, which has numbers of this process
    registry.register(Numbers(apps, nodes))
    return generate_latest(registry).decode()


class Numbers(Collector):
    """The metrics of some apps and nodes, as they were at one moment."""

    def __init__(self, apps: Sequence[AppStatus], nodes: Sequence[NodeNumbers]) -> None:
        self._apps, self._nodes = apps, nodes

    def collect(self) -> Iterator[Metric]:
        """Yield each metric with all its samples."""
        for name, (kind, text, field) in FUNCTION.items():
            metric = Metric(name, text, kind)
            sample = f"{name}_total" if kind == "counter" else name
            for app in self._apps:
                for function in app.functions:
                    labels = {**_of(app), "function": function.name}
                    metric.add_sample(sample, labels, getattr(function, field))
            yield metric
        yield self._quantiles()
        yield self._containers()
        if self._nodes:
            yield from self._of_nodes()

    def _quantiles(self) -> Metric:
        name = "homeport_request_duration_seconds"
        metric = Metric(name, "How long requests took in the last minutes.", "summary")
        endpoints = [(app, endpoint) for app in self._apps for endpoint in app.endpoints]
        for app, endpoint in endpoints:
            labels = {**_of(app), "endpoint": endpoint.tag}
            for quantile, field in QUANTILES.items():
                if (ms := getattr(endpoint, field)) is not None:
                    metric.add_sample(name, {**labels, "quantile": quantile}, ms / 1000)
        return metric

    def _of_nodes(self) -> Iterator[Metric]:
        states = Metric("homeport_nodes", "Nodes by their state; `here` is the server's own machine.", "gauge")  # fmt: skip
        for node in self._nodes:
            states.add_sample(states.name, {"node": node.name, "state": node.state}, 1)
        yield states
        for name, (text, field, factor) in NODE.items():
            metric = Metric(name, text, "gauge")
            for node in self._nodes:
                if (value := getattr(node, field)) is not None:
                    metric.add_sample(name, {"node": node.name}, value * factor)
            yield metric

    def _containers(self) -> Metric:
        metric = Metric("homeport_containers", "Containers by their state.", "gauge")
        counts = Counter(
            (app.environment, app.name, container.function, container.state.value)
            for app in self._apps
            for container in app.containers
        )
        for (environment, app, function, state), count in counts.items():
            labels = {**_labels(environment, app), "function": function, "state": state}
            metric.add_sample(metric.name, labels, count)
        return metric


def _of(app: AppStatus) -> dict[str, str]:
    return _labels(app.environment, app.name)


def _labels(environment: str, app: str) -> dict[str, str]:
    """Return the labels of an app; for Prometheus a label that is missing is an empty one."""
    named = {} if environment == "main" else {"environment": environment}
    return {**named, "app": app}
