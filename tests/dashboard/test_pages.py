"""What pages make of the API's answers, without a server."""

import pytest

from homeport.contract.api.nodes import JoinedNode, NodeList
from homeport.contract.api.requests import RecordedRequest, RequestDetail
from homeport.contract.api.series import EndpointSeries, FunctionSeries, Series
from homeport.contract.container import LogLine
from homeport.contract.errors import BadRequest, Forbidden
from homeport.dashboard import charts
from homeport.dashboard.pages import endpoint, requests, server, trying

EVIL = "<script>alert(1)</script>"


def series(**rest):
    wanted = {"begin": 1000.0, "step_s": 10, "steps": 2, "endpoints": (), "functions": ()}
    return Series(**{**wanted, "deploys": (), **rest})


def test_the_last_step_is_as_long_as_it_has_lasted():
    assert [3.0, 2.0] == endpoint._rates((30, 8), series(), now=1014.0)
    assert [3.0, 0.8] == endpoint._rates((30, 8), series(), now=1099.0)


def test_a_last_step_that_nobody_has_looked_at_is_no_zero():
    assert [0, 2, None] == endpoint._sampled((0, 2, 0))
    assert [2, 1] == endpoint._sampled((2, 1))


def test_an_endpoint_has_its_charts():
    of_endpoint = EndpointSeries(
        app="shop",
        tag="f",
        by_status={"2xx": (1, 2), "5xx": (0, 1)},
        p50_ms=(1, None),
        p99_ms=(5, None),
        cold=(0, 0),
        sent_bytes=(1, 1),
    )
    of_function = FunctionSeries(
        app="shop",
        function="f",
        containers=(1, 1),
        cold_starts=(1, 0),
        failed_starts=(0, 0),
        cpu_cores=(0.1, 0.2),
        memory_mib=(10, 20),
        gpu_memory_mib=(0, 0),
    )
    drawn = endpoint.draw(series(endpoints=(of_endpoint,), functions=(of_function,)), "f", "f")
    quiet = endpoint.draw(series(), "f", "f")

    titles = ["Requests", "Latency", "Containers", "Cold starts", "CPU", "Memory"]
    assert all(title in chart for title, chart in zip(titles, drawn, strict=True))
    assert 3 == len(quiet)


def test_a_chart_has_names_as_text():
    line = charts.Line(name=EVIL, values=(1.0, None))
    marker = charts.Marker(place=0.5, text=EVIL)
    drawn = charts.chart(EVIL, [line], unit="ms", begin=0.0, step_s=1.0, markers=[marker])

    assert "<script" not in drawn
    assert 4 <= drawn.count("&lt;script")


def test_lines_stand_in_the_part_in_which_they_were_printed():
    request = RecordedRequest(
        id="1", kind="visit", at=100.0, app="shop", tag="f", version=1, container="ta-1", method="GET", path="/",
        query="", client="", status=200, received_bytes=1, sent_bytes=1, total_ms=30, parts_ms={"queued": 10, "app": 20},
    )  # fmt: skip
    lines = tuple(
        LogLine(at=100.0 + ms / 1000, app="shop", function="f", container="ta-1", text=str(ms))
        for ms in (25, 5, 40)
    )
    bars = requests.waterfall(RequestDetail(request=request, start=None, lines=lines))

    assert [("queued", ["5"]), ("app", ["25"]), ("afterwards", ["40"])] == [
        (bar.name, [line.text for line in bar.lines]) for bar in bars
    ]


@pytest.mark.parametrize("field", ["Host: evil", "no colon", "a b: c", "X: \x01", "é: x"])
def test_a_field_that_cannot_be_sent_is_refused(field):
    with pytest.raises(BadRequest):
        trying._headers(field)


def test_fields_of_a_request_are_read():
    assert [("Modal-Key", "wk-1"), ("Accept", "*/*")] == trying._headers(
        "Modal-Key: wk-1\n\nAccept: */*"
    )


def test_machines_that_have_joined_are_shown_with_what_they_have():
    good = JoinedNode(
        name="b", health="ready", drained=True, containers=2, joined_at=1.0, cores=8, memory_mib=2048,
        free_mib=1024, round_trip_ms=3.0, version="1.2", labels={"region": EVIL},
    )  # fmt: skip
    new = JoinedNode(name="c", health="suspect", drained=False, containers=0, joined_at=1.0)
    shown = server._machines(NodeList(nodes=(good, new)))

    for text in ("drained", "2 GiB", "1 GiB", "3 ms", "1.2", "suspect", "&lt;script"):
        assert text in shown
    assert "<script" not in shown
    assert "not yours" in server._machines(Forbidden("not yours"))
