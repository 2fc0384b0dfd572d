"""What Prometheus reads is what `homeport status` shows."""

import dataclasses

from prometheus_client.parser import text_string_to_metric_families

from homeport.contract.api.apps import AppState, AppStatus, EndpointStatus, FunctionStatus
from homeport.contract.api.containers import ContainerStatus
from homeport.contract.container import State
from homeport.control.api import metrics
from homeport.control.fleet.census import NodeNumbers

NUMBERS = [
    field for field in dataclasses.fields(FunctionStatus) if field.name not in ("name", "next_run")
]


def endpoint(tag: str, **numbers) -> EndpointStatus:
    told = {
        "running": 0,
        "queued": 0,
        "served": 0,
        "errors": 0,
        "cold_starts": 0,
        "failed_starts": 0,
        "p50_ms": None,
        "p99_ms": None,
        **numbers,
    }
    return EndpointStatus(
        tag=tag,
        url="",
        local_url="",
        protected=False,
        truncated=False,
        stolen=False,
        containers=1,
        **told,
    )


def app(name: str, *endpoints: EndpointStatus, states=()) -> AppStatus:
    return AppStatus(
        name=name,
        app_id="ap-1",
        state=AppState.DEPLOYED,
        reason="",
        version=1,
        created_at=0.0,
        stopped_at=None,
        endpoints=endpoints,
        functions=tuple(
            FunctionStatus(name=e.tag, **{f.name: getattr(e, f.name) for f in NUMBERS})
            for e in endpoints
        ),
        containers=tuple(
            ContainerStatus(
                id="ta-1",
                app=name,
                function="f",
                revision="rv-1",
                state=state,
                pid=1,
                started_at=0.0,
            )
            for state in states
        ),
    )


def samples(*apps: AppStatus) -> dict[tuple[str, ...], float]:
    """(name, label values in order) -> value, as Prometheus's own parser reads them."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(metrics.render(apps))
        for sample in family.samples
    }


def test_every_number_of_a_function_is_there():
    numbers = {
        "served": 7,
        "errors": 2,
        "cold_starts": 3,
        "failed_starts": 1,
        "running": 4,
        "queued": 5,
    }

    assert {
        ("homeport_requests_total", "shop", "f"): 7.0,
        ("homeport_errors_total", "shop", "f"): 2.0,
        ("homeport_cold_starts_total", "shop", "f"): 3.0,
        ("homeport_failed_starts_total", "shop", "f"): 1.0,
        ("homeport_running", "shop", "f"): 4.0,
        ("homeport_queued", "shop", "f"): 5.0,
        ("homeport_request_duration_seconds", "shop", "f", "0.5"): 0.012,
        ("homeport_request_duration_seconds", "shop", "f", "0.99"): 1.5,
        ("homeport_containers", "shop", "f", "ready"): 2.0,
        ("homeport_containers", "shop", "f", "starting"): 1.0,
    } == samples(
        app(
            "shop",
            endpoint("f", p50_ms=12, p99_ms=1500, **numbers),
            states=[State.READY, State.STARTING, State.READY],
        )
    )


def test_an_endpoint_without_requests_has_no_quantiles():
    assert "homeport_request_duration_seconds" not in {name for name, *_ in samples(app("a", endpoint("f")))}  # fmt: skip


def test_apps_are_told_apart_and_odd_names_stay_one_label():
    told = samples(app("a", endpoint("f", served=1)), app('b"\\\n', endpoint("f", served=2)))

    assert 1.0 == told["homeport_requests_total", "a", "f"]
    assert 2.0 == told["homeport_requests_total", 'b"\\\n', "f"]


def test_the_names_and_kinds_are_those_that_dashboards_know():
    text = metrics.render([])
    kinds = dict(line.split()[2:] for line in text.splitlines() if line.startswith("# TYPE"))

    assert {
        "homeport_requests_total": "counter",
        "homeport_errors_total": "counter",
        "homeport_cold_starts_total": "counter",
        "homeport_failed_starts_total": "counter",
        "homeport_running": "gauge",
        "homeport_queued": "gauge",
        "homeport_request_duration_seconds": "summary",
        "homeport_containers": "gauge",
    } == kinds
    assert "python_info" not in text


def test_nodes_have_their_state_and_what_is_free():
    there = NodeNumbers(
        name="b", state="drained", containers=2, places_free=3, memory_free_mib=4, round_trip_s=0.5
    )
    unknown = NodeNumbers(name="c", state="gone", containers=0)
    told = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(metrics.render([], [there, unknown]))
        for sample in family.samples
    }

    assert {
        ("homeport_nodes", "b", "drained"): 1.0,
        ("homeport_nodes", "c", "gone"): 1.0,
        ("homeport_node_containers", "b"): 2.0,
        ("homeport_node_containers", "c"): 0.0,
        ("homeport_node_free_places", "b"): 3.0,
        ("homeport_node_free_memory_bytes", "b"): 4.0 * 1024**2,
        ("homeport_node_round_trip_seconds", "b"): 0.5,
    } == told
