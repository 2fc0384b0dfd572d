"""The line of a function: what is sent next, and when the database is asked for more."""

import math

import pytest

from homeport.control.calls import lines
from homeport.control.calls.lines import Line
from homeport.state.calls import CallRow


@pytest.fixture(autouse=True)
def three_at_once(monkeypatch):
    monkeypatch.setattr(lines, "MOST", 3)


def waiting(*numbers: int, attempt: int = 0):
    return [
        (CallRow(id=f"fc-{n}", endpoint="e", app="a", tag="f", attempt=attempt), b"%d" % n)
        for n in numbers
    ]


def sent(line: Line) -> list[str]:
    ids = []
    while (call := line.take()) is not None:
        ids.append(call[0].id)
    return ids


def test_new_calls_are_sent_from_memory_and_only_so_many():
    line = Line("e")
    line.add(waiting(1, 2, 3, 4, 5))

    assert ["fc-1", "fc-2", "fc-3"] == sent(line)
    assert 0 == line.wanted  # there is no room for more
    line.landed(("fc-2", 0))
    assert 5 == line.wanted  # the database may return the two that are on their way
    line.read(waiting(1, 3, 4, 5))
    assert ["fc-4"] == sent(line)


def test_calls_without_room_in_memory_are_read_later_and_keep_their_order():
    line = Line("e")
    line.add(waiting(1, 2, 3))
    assert ["fc-1", "fc-2", "fc-3"] == sent(line)
    line.add(waiting(4, 5, 6))
    line.add(waiting(7))
    line.landed(("fc-1", 0))

    assert ["fc-4"] == sent(line)
    assert 0 == line.wanted  # 5 and 6 are there
    for number in (2, 3, 4):
        line.landed((f"fc-{number}", 0))
    assert ["fc-5", "fc-6"] == sent(line)
    assert 5 == line.wanted
    line.add(waiting(8))  # comes after 7, which the database has
    line.is_behind = False
    line.read(waiting(5, 6, 7, 8))
    assert ["fc-7"] == sent(line)


def test_a_call_is_not_sent_twice_at_once():
    line = Line("e")
    line.add(waiting(1))
    assert ["fc-1"] == sent(line)
    line.read(waiting(1))

    assert [] == sent(line)
    line.landed(("fc-1", 0))
    assert line.is_empty


def test_the_next_attempt_of_a_call_on_its_way_is_read_when_that_has_ended():
    line = Line("e")
    line.add(waiting(1))
    assert ["fc-1"] == sent(line)
    line.read(waiting(1, attempt=1))
    assert 0 == line.wanted
    line.landed(("fc-1", 0))

    assert 3 == line.wanted
    line.is_behind = False
    line.read(waiting(1, attempt=1))
    assert ["fc-1"] == sent(line)


def test_a_cancelled_call_is_dropped():
    line = Line("e")
    line.add(waiting(1, 2))
    line.drop(("fc-1", 0))
    line.drop(("fc-9", 0))

    assert ["fc-2"] == sent(line)


def test_a_line_is_empty_when_nothing_waits():
    line = Line("e")
    assert line.is_empty
    line.due(20.0)
    line.due(10.0)
    line.due(30.0)

    assert 10.0 == line.next_at
    assert not line.is_empty
    line.next_at = math.inf
    assert line.is_empty
    line.is_behind = True
    assert not line.is_empty
