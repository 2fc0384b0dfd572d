"""A query is the same after encoding and decoding; a wrong query is refused with a clear message."""

import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.contract import query
from homeport.contract.api.coldstarts import ColdStartQuery
from homeport.contract.api.logs import LogQuery
from homeport.contract.errors import BadRequest

QUERIES = st.builds(
    LogQuery,
    tail=st.integers(1, 10**9 - 1),
    follow=st.booleans(),
    function=st.text(st.characters(exclude_categories=["Cs"])),
    container=st.text(st.characters(exclude_categories=["Cs"])),
    request=st.just(""),
    since=st.floats(allow_nan=False, allow_infinity=False),
)


@given(wanted=QUERIES)
def test_a_query_comes_back_as_it_was(wanted):
    read = dict(urllib.parse.parse_qsl(query.encode(wanted), keep_blank_values=True))

    assert wanted == query.decode(LogQuery, read)


def test_a_field_that_is_missing_has_its_default():
    assert "" == query.encode(LogQuery())
    assert LogQuery() == query.decode(LogQuery, {"tail": "", "follow": "0", "colour": "blue"})
    assert "follow=1" == query.encode(LogQuery(follow=True))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("tail", "0", "`tail` must be a number of at least 1"),
        ("tail", "-1", "`tail`"),
        ("tail", "x", "`tail`"),
        ("tail", "\u0663", "`tail`"),
        ("tail", "1" * 10, "`tail`"),
        ("since", "x", "`since` must be a number of seconds since the epoch"),
        ("since", "nan", "`since`"),
        ("since", "inf", "`since`"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused(name, text, message):
    with pytest.raises(BadRequest, match=message):
        query.decode(LogQuery if name == "since" else ColdStartQuery, {name: text})
