"""What a container records of a request, and what it sends to the server."""

import asyncio
import queue

import pytest

from homeport.contract import codec
from homeport.contract.captured import Captured
from homeport.runner.servers import captured
from homeport.runner.servers.captured import Capture, Raw
from homeport.sdk import context
from tests.waiting import wait_for


@pytest.fixture
def sent(monkeypatch):
    """Collect what would be sent."""
    found: list[tuple[str, Captured]] = []
    monkeypatch.setattr(captured, "_send", lambda token, record: found.append((token, record)))
    return found


def test_a_request_is_recorded_as_far_as_was_asked(sent):
    capture = Capture("0f5c.4")
    capture.came("POST", "/a?b=1", (("X-Request-Id", "id-1"),))
    capture.received(b"abc")
    capture.received(b"def")
    capture.answered(201, (("X", "y"),))
    capture.sent(b"1234")
    capture.over()
    capture.over()
    ((token, record),) = sent

    assert ("0f5c", "id-1", "POST", "/a?b=1", 201) == (
        *(token, record.id),
        *(record.method, record.target, record.status),
    )
    assert (b"abcd", 6, True) == (
        *(record.request.body, record.request.body_bytes),
        record.request.cut,
    )
    assert (b"1234", 4, False) == (
        *(record.response.body, record.response.body_bytes),
        record.response.cut,
    )


async def test_the_answer_of_an_asgi_app_is_passed_on_before_it_is_recorded(sent):
    order = []

    async def receive():
        return {"type": "http.request", "body": b"in"}

    async def send(message):
        order.append((message["type"], len(capture._sent.message(()).body)))

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/a b",
        "raw_path": b"/a%20b",
        "query_string": b"c=d",
        "headers": [(b"x-request-id", b"id-1")],
    }
    capture = Capture("0f5c.100")
    receiving, sending = capture.around(scope, receive, send)
    assert b"in" == (await receiving())["body"]
    await sending({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})
    await sending({"type": "http.response.body", "body": b"out"})
    capture.over()

    assert [("http.response.start", 0), ("http.response.body", 0)] == order
    ((_, record),) = sent
    assert ("/a%20b?c=d", b"in", b"out") == (
        *(record.target, record.request.body),
        record.response.body,
    )
    assert (("a", "b"),) == record.response.fields


@pytest.mark.parametrize(
    ("answer", "status", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, b"ok"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 No\r\n\r\nno", 404, b"no"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x=y\r\nok\r\n1\r\n!\r\n0\r\n\r\n",
            *(200, b"ok!"),
        ),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nok", 200, b""),
        (b"what a program likes", 0, b""),
        (b"", 0, b""),
    ],
)
def test_bytes_are_taken_apart_when_they_have_passed(sent, answer, status, body):
    raw = Raw("0f5c.100")
    raw.received(b"POST /x HTTP/1.1\r\nx-request-id: id-1\r\nContent-Length: 2\r\n\r\n")
    raw.received(b"in")
    for at in range(0, len(answer), 7):
        raw.sent(answer[at : at + 7])
    raw.over()
    ((_, record),) = sent

    assert ("id-1", "POST", "/x", b"in") == (
        *(record.id, record.method, record.target),
        record.request.body,
    )
    assert (status, body) == (record.status, record.response.body)


def test_a_capture_goes_to_the_server(monkeypatch, tmp_path):
    asked = []

    class Answer:
        status = 204

    monkeypatch.setattr(
        captured.wire, "ask", lambda address, request: asked.append((address, request)) or Answer()
    )
    monkeypatch.setattr(context, "_reach", context.Reach(socket="/s", key="k"))
    capture = Capture("0f5c.4")
    capture.came("GET", "/", ())
    capture.over()
    wait_for(lambda: asked, "the request")
    ((address, request),) = asked

    assert ("/s", "/v1/captures/0f5c", "k") == (
        *(address, request.target),
        request.fields["X-Homeport-Key"],
    )
    assert "GET" == codec.loads(Captured, request.body).method


def test_more_than_the_server_takes_is_dropped_and_told(monkeypatch, capsys):
    monkeypatch.setattr(captured, "_queue", queue.Queue(1))
    monkeypatch.setattr(captured, "_sender", asyncio)  # there is a thread already, and it is stuck
    for _ in range(2):
        capture = Capture("0f5c.4")
        capture.came("GET", "/", ())
        capture.over()

    assert 1 == capsys.readouterr().err.count("a request is not captured")


@pytest.mark.parametrize(
    ("method", "fields", "share", "count"),
    [
        ("GET", (), 10_000, 1),
        ("HEAD", (), 10_000, 1),
        ("GET", (), 0, 0),
        ("POST", (), 10_000, 0),
        ("GET", (("Cookie", "a=1"),), 10_000, 0),
        ("GET", (("authorization", "x"),), 10_000, 0),
        ("GET", (("Accept", "x"),), 10_000, 1),
    ],
)
def test_a_mirror_gets_a_share_of_what_is_safe(sent, method, fields, share, count):
    capture = Capture(f"0f5c.100.{share}")
    capture.came(method, "/", fields)
    capture.received(b"x")
    capture.over()

    assert count == len(sent)


def test_an_apps_own_425_is_recorded_as_that(sent):
    capture = Capture("0f5c.4")
    capture.came("GET", "/", (("X-Request-Id", "id-1"),))
    capture.answered(499, (("x-own", "1"), ("x-homeport-status", "425")))
    capture.over()
    ((_, record),) = sent

    assert (425, (("x-own", "1"),)) == (record.status, record.response.fields)
