"""How an answer differs from a captured one, and what is sent again."""

import pytest

from homeport.cli import replay
from homeport.cli.replay import Answer
from homeport.contract.captured import Captured, Message
from homeport.contract.errors import BadRequest


def captured(body: bytes = b"", fields=(), request=None, **changes) -> Captured:
    told = {
        "id": "x",
        "method": "GET",
        "target": "/",
        "status": 200,
        "request": request or Message(),
        "response": Message(fields=tuple(fields), body=body, body_bytes=len(body)),
    }
    return Captured(**{**told, **changes})


def answer(body: bytes = b"", fields=(), status: int = 200) -> Answer:
    return Answer(status=status, fields=tuple(fields), body=body, took_ms=1)


@pytest.mark.parametrize(
    ("before", "now", "lines"),
    [
        (captured(), answer(), []),
        (captured(), answer(status=500), ["status: 200 -> 500"]),
        (
            captured(fields=[("Date", "a"), ("Content-Length", "3"), ("X-A", "1"), ("X-B", "2")]),
            answer(fields=[("date", "b"), ("x-a", "1"), ("x-c", "3")]),
            ["x-b: 2 -> (none)", "x-c: (none) -> 3"],
        ),
        (captured(removed=("set-cookie", "x-token")), answer(fields=[("X-Token", "t")]), []),
        (captured(b'{"b": 1, "a": 2}'), answer(b'{"a":2,"b":1}'), []),
        (
            captured(b'{"a": 1}'),
            answer(b'{"a": 2}'),
            ["--- captured", "+++ now", "@@ -1,3 +1,3 @@", " {", '-  "a": 1', '+  "a": 2', " }"],
        ),
        (captured(b"\xff"), answer(b"ab"), ["body: 1 bytes -> 2 bytes, not text"]),
        (captured(b"a\n"), answer(b"a"), []),
    ],
)
def test_differences_are_told(before, now, lines):
    assert lines == list(replay.differences(before, now))


def test_of_a_body_that_was_cut_the_beginning_is_compared():
    before = captured(response=Message(body=b"abc", body_bytes=10, cut=True))
    (line,) = replay.differences(before, answer(b"abcdefghij"))

    assert "10 bytes, of which 3 were kept" in line


def test_a_long_difference_is_cut():
    lines = list(replay.differences(captured(b"a\n" * 1000), answer(b"b\n" * 1000)))

    assert (replay.MOST_LINES + 1, "…") == (len(lines), lines[-1])


def test_what_the_way_has_written_is_not_sent_again():
    request = Message(
        fields=(
            ("host", "shop"),
            ("X-Forwarded-For", "10.0.0.1"),
            ("X-Request-Id", "x"),
            ("traceparent", "t"),
            ("Accept", "a"),
            ("X-Mine", "old"),
        )
    )
    told = replay.fields_of(captured(request=request), [("x-mine", "new")])

    assert [("Accept", "a"), ("accept-encoding", "identity"), ("x-mine", "new")] == told


@pytest.mark.parametrize(
    "request_",
    [
        Message(body=b"ab", body_bytes=3, cut=True),
        Message(fields=(("Content-Length", "5"),), body=b"ab", body_bytes=2),
    ],
)
def test_a_request_without_its_whole_body_is_not_sent(request_):
    with pytest.raises(BadRequest, match="not captured whole"):
        replay._check(captured(request=request_))


@pytest.mark.parametrize("text", ["", "x", ": y", "a: b\r\nc: d"])
def test_a_field_is_a_name_and_a_value(text):
    with pytest.raises(BadRequest, match="is not a field"):
        replay._field(text)
