"""Commands show what containers have written, and run none of it."""

import collections
import datetime as dt
import os
import pickle

import pytest

from homeport.contract import pickled


class Bomb:
    def __reduce__(self):
        return os.system, ("touch /tmp/homeport-was-here",)


@pytest.mark.parametrize(
    "value",
    [1, "text", b"bytes", [1, {"a": (None, True)}], {1, 2}, dt.date(2026, 1, 2),
     collections.OrderedDict(a=1)],
)  # fmt: skip
def test_plain_values_are_shown(value):
    assert value == pickled.value(pickle.dumps(value))


def test_nothing_is_run(monkeypatch):
    ran, data = [], pickle.dumps([Bomb()])
    monkeypatch.setattr(os, "system", ran.append)
    shown = repr(pickled.value(data))

    assert [] == ran
    assert "system, " in shown
    assert shown.endswith(" bytes>")


@pytest.mark.parametrize("data", [b"", b"garbage", pickle.dumps(collections.Counter("ab"))[:-3]])
def test_data_that_is_no_pickle_is_shown_as_such(data):
    assert repr(pickled.value(data)).startswith("<")


def test_a_class_is_named():
    assert "<collections.Counter, " in repr(pickled.value(pickle.dumps(collections.Counter("a"))))
