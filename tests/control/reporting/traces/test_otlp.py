"""OpenTelemetry's own exporter against a receiver that speaks the protocol over HTTP."""

import pytest

from homeport.contract.errors import BadRequest
from homeport.control.reporting.traces import installed
from homeport.control.reporting.traces.exporter import Refused, Unavailable
from homeport.control.reporting.traces.otlp import Otlp
from homeport.control.reporting.traces.spans import Span
from homeport.settings import Settings
from tests.otlp import attributes, receiver

TRACE, OWN, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", "b7ad6b7169203331"


def span(**changes) -> Span:
    """Return a span of two milliseconds."""
    told = {
        "trace": TRACE,
        "id": OWN,
        "name": "GET shop.web",
        "begin_ns": 10**18,
        "end_ns": 10**18 + 2_000_000,
    }
    return Span(**{**told, **changes})


@pytest.fixture
def server():
    with receiver() as server:
        yield server


def test_a_span_arrives_as_it_was(server):
    sender = Otlp(server.url, "api-key=a%20b, x-team=c")
    server_span = span(
        parent=PARENT,
        is_remote=True,
        is_server=True,
        attributes={"url.path": "/", "http.response.status_code": 503, "homeport.cold": True},
        error="",
    )
    sender.send([server_span, span(id=PARENT, parent=OWN, error="timeout")])

    one, two = server.spans
    assert (TRACE, OWN, PARENT) == (one.trace_id.hex(), one.span_id.hex(), one.parent_span_id.hex())
    assert (10**18, 10**18 + 2_000_000) == (one.start_time_unix_nano, one.end_time_unix_nano)
    assert ("GET shop.web", one.SPAN_KIND_SERVER, two.SPAN_KIND_INTERNAL) == (
        one.name,
        one.kind,
        two.kind,
    )
    assert server_span.attributes == attributes(one)
    assert [(2, ""), (2, "timeout")] == [
        (each.status.code, each.status.message) for each in (one, two)
    ]
    assert [0x300, 0x100] == [each.flags & 0x300 for each in (one, two)]
    assert "homeport" == server.resource()["service.name"]
    assert ("gzip", "a b", "c") == tuple(
        server.headers[0][name] for name in ("content-encoding", "api-key", "x-team")
    )


def test_several_messages_share_a_sender(server):
    sender = Otlp(server.url)
    for _ in range(3):
        sender.send([span()])

    assert 3 == len(server.messages)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_receiver_that_is_busy_is_left_alone_as_long_as_it_asks(server, status):
    server.answers = [
        (status, {"Retry-After": "77"}),
        (status, {}),
        (status, {"Retry-After": "soon"}),
    ]
    sender, asked = Otlp(server.url), []
    for _ in range(3):
        with pytest.raises(Unavailable, match=str(status)) as raised:
            sender.send([span()])
        asked.append(raised.value.retry_after_s)

    assert [77.0, None, None] == asked
    assert 3 == server.asked  # once each
    sender.send([span()])
    assert 1 == len(server.spans)


@pytest.mark.parametrize("status", [400, 401, 404, 413, 500])
def test_a_receiver_that_refuses_is_not_asked_again(server, status):
    server.answers = [(status, {})]
    with pytest.raises(Refused, match=str(status)):
        Otlp(server.url).send([span()])

    assert 1 == server.asked


def test_a_redirect_is_not_followed_with_the_key(server):
    with receiver() as other:
        server.answers = [(307, {"Location": f"{other.url}/v1/traces"})]
        with pytest.raises(Refused, match="307"):
            Otlp(server.url, "api-key=secret").send([span()])

        assert 0 == other.asked


def test_a_part_that_is_rejected_is_told_of_in_one_line(server):
    server.rejects = 1
    with pytest.raises(Refused, match=r"rejects 1 spans: 'too\\nold'"):
        Otlp(server.url).send([span(), span()])


def test_a_receiver_that_is_down_may_come_back(free_tcp_port):
    with pytest.raises(Unavailable, match="cannot be reached"):
        Otlp(f"http://127.0.0.1:{free_tcp_port}").send([span()])


def test_a_span_that_cannot_be_sent_is_not_kept_for_later(server):
    """Otherwise the same spans would be tried for ever, and all later ones would wait."""
    sender = Otlp(server.url)
    with pytest.raises(ValueError, match="invalid literal"):
        sender.send([span(id="no number")])

    sender.send([span()])
    assert 1 == len(server.spans)


def test_nothing_is_logged_by_others(server, caplog):
    server.answers = [(503, {}), (400, {})]
    sender = Otlp(server.url, "api-key=secret")
    for _ in range(2):
        with pytest.raises((Unavailable, Refused)):
            sender.send([span()])

    assert [] == caplog.records


def test_a_missing_package_is_told_at_the_start(monkeypatch, tmp_path):
    settings = Settings(home=tmp_path, tracing="otlp")
    installed.check(settings)
    monkeypatch.setattr(installed, "PACKAGES", ("opentelemetry.nothing.there",))
    with pytest.raises(BadRequest, match="not installed") as raised:
        installed.check(settings)

    assert "pip install 'homeport[otel]'" in raised.value.hint
    installed.check(Settings(home=tmp_path))
