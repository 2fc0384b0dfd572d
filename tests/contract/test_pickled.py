"""Commands show what containers have written, and run none of it."""

import collections
import datetime as dt
import decimal
import fractions
import os
import pickle
import uuid

import pytest

from homeport.contract import pickled


class Bomb:
    def __reduce__(self):
        return os.system, ("touch /tmp/homeport-was-here",)


class Called:
    """An object that is pickled as a call."""

    def __init__(self, function, *arguments):
        self._call = function, arguments

    def __reduce__(self):
        return self._call


def nested(depth, times):
    """Return a list that has one object `times` times, which is such a list again."""
    value = ["x"]
    for _ in range(depth):
        value = [value] * times
    return value


@pytest.mark.parametrize("protocol", [4, pickle.HIGHEST_PROTOCOL])
@pytest.mark.parametrize(
    "value",
    [1, "text", b"bytes", [1, {"a": (None, True)}], {1, 2}, frozenset("a"), 1j,
     dt.date(2026, 1, 2), dt.datetime(2026, 1, 2, tzinfo=dt.UTC), dt.timedelta(1), dt.time(1),
     collections.OrderedDict(a=1), collections.deque([1], 3), decimal.Decimal("1.5"), uuid.UUID(int=7)],
)  # fmt: skip
def test_plain_values_are_shown_as_python_writes_them(value, protocol):
    assert repr(value) == pickled.shown(pickle.dumps(value, protocol))


def test_a_long_list_is_shown_whole():
    value = [{"name": f"n{number}", "tags": ("a", "b")} for number in range(5000)]

    assert repr(value) == pickled.shown(pickle.dumps(value))


def test_nothing_is_run(monkeypatch):
    ran, data = [], pickle.dumps([Bomb()])
    monkeypatch.setattr(os, "system", ran.append)
    shown = pickled.shown(data)

    assert [] == ran
    assert "system, " in shown
    assert shown.endswith(" bytes>")


@pytest.mark.parametrize("data", [b"", b"garbage", pickle.dumps(collections.Counter("ab"))[:-3]])
def test_data_that_is_no_pickle_is_shown_as_such(data):
    assert pickled.shown(data).startswith("<")


def test_a_class_is_named():
    assert "<collections.Counter, " in pickled.shown(pickle.dumps(collections.Counter("a")))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(pickle.dumps(10**5000), id="Python writes no number of so many digits"),
        pytest.param(b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".", id="too deep for Python"),
        pytest.param(pickle.dumps(nested(12, 10)), id="a text of 10^12 characters"),
        pytest.param(pickle.dumps("x" * (pickled.MOST_TEXT + 1)), id="a long text"),
        pytest.param(pickle.dumps([None] * pickled.MOST_OPERATIONS), id="many operations"),
        pytest.param(pickle.dumps(Called(set, range(10**12))), id="a set that fills the memory"),
        pytest.param(
            pickle.dumps(Called(fractions.Fraction, "1e9999999999")),
            id="a fraction that fills the memory",
        ),
        pytest.param(b"\x80\x02]r\xff\xff\xff\x7f.", id="32 GiB of memory for one list"),
        pytest.param(b"]p2147483647\n.", id="32 GiB of memory in the first protocol"),
    ],
)
def test_a_value_that_cannot_be_written_is_shown_by_its_size(data):
    shown = pickled.shown(data)

    assert shown.startswith("<")
    assert shown.endswith(f", {len(data)} bytes>")


def test_a_list_that_has_itself_is_shown_by_its_size():
    value: list[object] = []
    value.append(value)

    assert pickled.shown(pickle.dumps(value)).startswith("<an object, ")
