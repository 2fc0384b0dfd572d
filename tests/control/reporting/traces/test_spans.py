"""The spans of a request: their times, parents and attributes."""

import pytest

from homeport.contract import recorded, tracing
from homeport.contract.scope import Scope
from homeport.control.reporting.traces import spans
from homeport.control.reporting.traces.spans import Ended, Server, Span
from homeport.state.coldstarts import ColdStart
from homeport.state.requests import Place
from tests.recorded import words

SERVER = Server(domain="example.com", scheme="https", port=443)
ID = "8f14e45f-ceea-467f-a9c1-2b3c4d5e6f70"
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
MS = 1_000_000


def made(start: ColdStart | None = None, version: int = 3, **changes: str) -> list[Span]:
    """Return the spans of a request that ended at 1700000000.100, after 100 ms."""
    request = recorded.decode(words(**{"id": ID, "trace": "1", **changes}))
    assert request.trace is not None
    place = Place(Scope("acme", "test"), "shop", "web")
    ended = Ended(
        request=request,
        trace=request.trace,
        place=place,
        revision="rv-1",
        version=version,
        start=start,
    )
    return list(spans.of(ended, SERVER))


def test_a_request_is_a_span_of_a_server():
    whole, *_ = made()

    assert (ID.replace("-", ""), tracing.span_id(ID, 1), "") == (
        whole.trace,
        whole.id,
        whole.parent,
    )
    assert (1700000000000 * MS, 1700000000100 * MS) == (whole.begin_ns, whole.end_ns)
    assert (True, "GET shop.web", None) == (whole.is_server, whole.name, whole.error)
    assert {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "url.scheme": "https",
        "url.path": "/shop/1",
        "server.address": "web.example.com",
        "server.port": 443,
        "homeport.request": ID,
        "homeport.kind": "visit",
        "homeport.app": "shop",
        "homeport.function": "web",
        "homeport.workspace": "acme",
        "homeport.environment": "test",
        "homeport.endpoint": "web",
        "homeport.revision": "rv-1",
        "homeport.version": 3,
        "homeport.container": "ta-1",
        "homeport.cold": False,
        "homeport.received_bytes": 20,
        "homeport.sent_bytes": 10,
    } == whole.attributes


def test_the_parts_of_a_request_are_below_its_span_without_a_gap():
    whole, *parts = made(head="30", wait="10", first="40", parked="25")

    assert ["received", "parked", "queued", "app", "stream"] == [each.name for each in parts]
    assert {whole.id} == {each.parent for each in parts}
    assert [whole.begin_ns, *(each.end_ns for each in parts)] == [
        *(each.begin_ns for each in parts),
        whole.end_ns,
    ]
    assert len({each.id for each in (whole, *parts)}) == 6


def test_a_visitors_span_is_its_parent():
    whole, *parts = made(trace=f"{TRACE}-{SPAN}-01")

    assert (TRACE, SPAN, True) == (whole.trace, whole.parent, whole.is_remote)
    assert {(TRACE, whole.id, False)} == {
        (each.trace, each.parent, each.is_remote) for each in parts
    }


def test_the_start_of_its_container_is_below_parked():
    start = ColdStart(
        at=1699999999.995,  # another request has waited longer
        app="shop",
        function="web",
        container="ta-1",
        revision="rv-1",
        origin="forked",
        timings_ms={
            "parked": 3.0,
            "scheduled": 1.0,
            "forked": 5.0,
            "imported": 20.0,
            "entered": 0.0,
            "first_byte": 9.0,
        },
    )
    _, parked, *others = made(start=start, head="40", parked="40")
    inner = [each for each in others if each.parent == parked.id]

    assert ["forked", "imported"] == [each.name for each in inner]
    assert [(0, 4), (4, 24)] == [
        tuple(round((at - parked.begin_ns) / MS) for at in (each.begin_ns, each.end_ns))
        for each in inner
    ]
    assert {"homeport.container": "ta-1", "homeport.origin": "forked"} == inner[0].attributes


@pytest.mark.parametrize(
    ("changes", "error", "kind"),
    [
        ({"status": "404"}, None, None),
        ({"status": "503"}, "", "503"),
        ({"status": "504", "how": "sH"}, "timeout", "timeout"),
        ({"how": "CD"}, "visitor left", "visitor left"),
    ],
)
def test_a_failure_of_the_server_is_an_error(changes, error, kind):
    whole, *_ = made(**changes)

    assert (error, kind) == (whole.error, whole.attributes.get("error.type"))


def test_a_call_has_no_url_and_tells_no_id_by_which_others_could_call():
    whole, *_ = made(kind="call", endpoint="call-0123", method="POST", target="/")

    assert "call shop.web" == whole.name
    assert not [value for value in whole.attributes.values() if "call-" in str(value)]
    assert "url.path" not in whole.attributes


def test_a_method_that_nobody_knows_makes_no_name_of_its_own():
    whole, *_ = made(method="BREW")

    assert "HTTP shop.web" == whole.name
    assert ("_OTHER", "BREW") == (
        whole.attributes["http.request.method"],
        whole.attributes["http.request.method_original"],
    )


def test_the_query_and_the_address_are_there_if_the_record_has_them():
    whole, *_ = made(client="10.0.0.9", target="/a?b=1", version=0)

    assert ("/a", "b=1", "10.0.0.9") == (
        *(whole.attributes["url.path"], whole.attributes["url.query"]),
        whole.attributes["client.address"],
    )
    assert "homeport.version" not in whole.attributes
