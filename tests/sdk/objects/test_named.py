"""Names of volumes, dicts and queues: which are valid, and which of them a list has."""

from datetime import UTC, datetime

import pytest

from homeport.sdk.exception import InvalidError
from homeport.sdk.objects import named

FOUND = [("old", 100.0), ("new", 300.0), ("middle", 200.0)]


@pytest.mark.parametrize("name", ["", "a/b", "x" * 65, None, 7])
def test_a_name_that_no_object_can_have_is_refused_with_its_kind(name):
    with pytest.raises(InvalidError, match=f"Invalid Queue name: '{name}'."):
        named.check("Queue", name)


def test_a_valid_name_is_not():
    named.check("Dict", "shop-1.stock_a")


@pytest.mark.parametrize(
    ("before", "most", "expected"),
    [
        (None, None, ["new", "middle", "old"]),
        (None, 2, ["new", "middle"]),
        (datetime.fromtimestamp(300.0, UTC), None, ["middle", "old"]),
        ("1970-01-01T00:03:20+00:00", 1, ["old"]),
    ],
)
def test_a_list_has_the_newest_first_and_only_those_before(before, most, expected):
    assert expected == named.newest(FOUND, created_before=before, max_objects=most)
