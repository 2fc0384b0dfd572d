"""The bars of a request: where they begin, what is below what."""

import doctest

from homeport.cli import waterfall
from homeport.contract.api.coldstarts import ColdStart
from homeport.contract.api.requests import RecordedRequest, RequestDetail
from homeport.contract.container import LogLine


def asked(**changes) -> RecordedRequest:
    told = {
        "id": "1b0c",
        "kind": "visit",
        "at": 1000.0,
        "app": "shop",
        "tag": "price",
        "version": 3,
        "container": "ta-1",
        "method": "GET",
        "path": "/a",
        "query": "",
        "client": "",
        "status": 200,
        "received_bytes": 80,
        "sent_bytes": 2048,
        "total_ms": 100,
        "parts_ms": {"parked": 60, "app": 30, "stream": 10},
        "cold": True,
    }
    return RecordedRequest(**{**told, **changes})


START = ColdStart(
    at=999.99,  # an earlier request had asked for it
    app="shop",
    function="price",
    container="ta-1",
    revision="rv",
    origin="forked",
    timings_ms={"parked": 5.0, "forked": 15.0, "imported": 20.0, "attached": 60.0, "first_byte": 9},
)


def printed(after_ms: float, text: str) -> LogLine:
    return LogLine(
        at=1000 + after_ms / 1000, app="shop", function="price", container="ta-1", text=text
    )


def test_the_examples_in_the_docstrings_hold():
    assert 0 == doctest.testmod(waterfall).failed


def test_below_parked_are_the_parts_of_the_start_as_far_as_the_request_waited():
    rows = [
        (row.name, round(row.begin_ms), round(row.took_ms), row.inner)
        for row in waterfall.parts(asked(), START)
    ]

    assert [
        ("parked", 0, 60, False),
        ("forked", 0, 10, True),
        ("imported", 10, 20, True),
        ("attached", 30, 30, True),
        ("app", 60, 30, False),
        ("stream", 90, 10, False),
    ] == rows


def test_a_line_is_below_the_part_in_which_it_was_printed(capsys):
    lines = (printed(-5, "early"), printed(70, "in the app\x1b[2J"), printed(500, "late"))
    waterfall.show(RequestDetail(request=asked(), start=None, lines=lines))
    out = capsys.readouterr().out.splitlines()

    assert ["parked", "+0", "app", "+70", "stream", "+500"] == [line.split()[0] for line in out]
    assert "\x1b[2J" not in "\n".join(out)
