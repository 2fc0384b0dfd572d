"""Requests that have ended, as lines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.contract import recorded
from homeport.contract.traffic import RequestRecord
from tests.recorded import words

TIMES = ("head", "wait", "connect", "first")


def test_a_line_is_a_record():
    line = " ".join(words(kind="call", client="::1", target="/a?b=c?d"))

    assert RequestRecord(
        id="1b0c",
        kind="call",
        at=1700000000.0,
        endpoint="web",
        method="GET",
        path="/a",
        query="b=c?d",
        client="::1",
        status=200,
        duration_ms=100,
        sent_bytes=10,
        received_bytes=20,
        container="ta-1",
        parts_ms={"app": 80, "stream": 20},
    ) == recorded.decode(recorded.fields(line) or [])


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({}, {"app": 80, "stream": 20}),
        (
            {"head": "60", "parked": "50", "first": "10"},
            {"received": 10, "parked": 50, "app": 10, "stream": 30},
        ),
        ({"wait": "5", "connect": "1"}, {"queued": 5, "connected": 1, "app": 80, "stream": 14}),
        ({"first": "-1"}, {"app": 100}),
        (
            {"wait": "-1", "connect": "-1", "first": "-1", "head": "30"},
            {"received": 30, "queued": 70},
        ),
        ({"head": "-1"}, {"received": 100}),
        ({"head": "-1", "parked": "0"}, {"parked": 100}),
    ],
)
def test_the_parts_of_a_request_are_its_whole_time(changes, parts):
    assert parts == recorded.decode(words(**changes)).parts_ms


@given(
    st.integers(0, 500),
    st.fixed_dictionaries({name: st.integers(-1, 300) for name in TIMES}),
    st.none() | st.integers(0, 300),
)
def test_the_parts_add_up_to_the_whole_time_whatever_the_clock_did(total, times, parked):
    told = words(
        total=f"{total}",
        parked="-" if parked is None else f"{parked}",
        **{name: f"{ms}" for name, ms in times.items()},
    )
    parts = recorded.decode(told).parts_ms

    assert total == sum(parts.values())
    assert all(ms > 0 for ms in parts.values())


@pytest.mark.parametrize(
    ("changes", "status", "ended"),
    [
        ({"how": "CH", "status": "400", "first": "-1"}, 0, "visitor left"),
        ({"how": "CD"}, 200, "visitor left"),
        ({"how": "SD"}, 200, "container ended"),
        ({"how": "sH", "status": "504"}, 504, "timeout"),
        ({"how": "PR", "status": "401"}, 401, ""),
        ({"how": "LR", "status": "404"}, 404, ""),
        ({"status": "-1"}, 0, ""),
    ],
)
def test_a_record_says_how_its_request_ended(changes, status, ended):
    record = recorded.decode(words(**changes))

    assert (status, ended) == (record.status, record.ended)


@pytest.mark.parametrize(
    ("target", "path"),
    [("/a#1B[2J#7C", "/a%1B[2J%7C"), ("*", "*"), ("/a b", "/a b"), ("-", "-")],
)
def test_a_path_has_no_character_that_moves_a_cursor(target, path):
    assert path == recorded.decode(recorded.fields(" ".join(words(target=target))) or []).path


@pytest.mark.parametrize("text", ["", "x", " ".join(words()[:-1]), " ".join(words(ended="-1"))])
def test_another_text_is_no_line(text):
    assert recorded.fields(text) is None


@pytest.mark.parametrize("name", ["<NOSRV>", "<STATS>", "-"])
def test_a_request_that_no_container_answered_has_no_container(name):
    assert "" == recorded.decode(words(container=name)).container
