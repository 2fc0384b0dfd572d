"""What `homeport app stats` prints."""

from homeport.cli import stats
from homeport.contract.api.series import EndpointSeries, FunctionSeries


def test_an_endpoint_is_a_line_of_sums_and_a_chart():
    series = EndpointSeries(
        app="shop",
        tag="price",
        by_status={"2xx": (0, 3, 8), "5xx": (0, 1, 0)},
        p50_ms=(None, 10, 30),
        p99_ms=(None, 2_500, 70),
        cold=(0, 1, 0),
        sent_bytes=(0, 1024, 1024),
    )

    assert ("shop.price", "12", "1", "1", "30 ms", "2.5 s", "2.0 KiB", " ▄█") == stats.endpoint(
        series
    )


def test_a_function_is_a_line_of_what_it_used_at_most():
    series = FunctionSeries(
        app="shop",
        function="price",
        containers=(1, 3, 0),
        cold_starts=(1, 2, 0),
        failed_starts=(0, 1, 0),
        cpu_cores=(0.25, 1.5, 0.0),
        memory_mib=(64, 192, 0),
        gpu_memory_mib=(0, 0, 0),
    )

    assert ("shop.price", "3", "3", "1", "1.50", "192.0 MiB", "") == stats.function(series)


def test_a_chart_without_a_number_is_empty():
    assert "" == stats.chart([])
    assert "  " == stats.chart([0, 0])
