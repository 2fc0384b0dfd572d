"""Class parameters: each value has one spelling, and each spelling one value."""

import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.contract import parameters
from homeport.contract.errors import BadRequest
from homeport.contract.manifest import Parameter

SIZE = Parameter(name="size", type="int", required=True)
LOUD = Parameter(name="loud", type="bool", required=False, default=False)
NAME = Parameter(name="name", type="str", required=False, default="x")
BLOB = Parameter(name="blob", type="bytes", required=False, default=b"")
DECLARED = (SIZE, LOUD, NAME, BLOB)


@pytest.mark.parametrize(
    ("expected", "query"),
    [
        ({"size": 3, "loud": False, "name": "x", "blob": b""}, "size=3"),
        ({"size": -3, "loud": True, "name": "a b", "blob": b""}, "loud=true&name=a+b&size=-3"),
        ({"size": 7, "loud": False, "name": "", "blob": b"\xff"}, "name=&size=007&loud=0&blob=%ff"),
        ({"size": 4, "loud": True, "name": "x", "blob": b""}, "size=3&page=2&size=4&loud=YES&size"),
        (
            {"size": -(2**63), "loud": False, "name": "é", "blob": b""},
            f"name=%c3%a9&size={-(2**63)}",
        ),
    ],
)
def test_parameters_are_read_by_their_types(expected, query):
    assert expected == parameters.read(DECLARED, query)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "loud=1",
        "size=three",
        "size=",
        "size=+3",  # a blank
        "size=3%20",
        "size=1_000",
        "size=%EF%BC%91%EF%BC%92",  # fullwidth digits
        f"size={2**63}",
        "size=" + "9" * 5000,
        "size=1e3",
        "size=3&loud=perhaps",
        "size=3&loud=",
        "size=3&name=%00",
        "size=3&name=%ff",  # not UTF-8
        "size=3&name=%ED%A0%80",  # a lone surrogate
    ],
)
def test_a_bad_parameter_names_the_accepted_ones(query):
    with pytest.raises(BadRequest) as caught:
        parameters.read(DECLARED, query)

    accepted = "`size` (int), `loud` (bool, optional), `name` (str, optional)"
    assert accepted in caught.value.message
    assert len(caught.value.message) < 500


def test_an_explicit_default_is_spelled_as_an_omitted_one():
    spelled = parameters.read(DECLARED, "size=3&loud=no&name=x&blob=")

    assert "size=3" == parameters.spell(DECLARED, spelled)


VALUES = st.fixed_dictionaries(
    {
        "size": st.integers(-(2**63), 2**63 - 1),
        "loud": st.booleans(),
        "name": st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
        "blob": st.binary(),
    }
)


@given(values=VALUES)
def test_the_spelling_of_parameters_is_read_as_the_same_values(values):
    spelling = parameters.spell(DECLARED, values)

    assert values == parameters.read(DECLARED, spelling)
    assert spelling.isascii()
    assert not set(spelling) & set(" \r\n\t;<'\"\\")


@given(one=VALUES, other=VALUES)
def test_different_values_are_spelled_differently(one, other):
    same = parameters.spell(DECLARED, one) == parameters.spell(DECLARED, other)

    assert same == (one == other)


@given(query=st.binary().map(lambda raw: "size=1&" + raw.decode("latin-1")))
def test_any_query_of_a_visitor_is_read_or_refused(query):
    try:
        values = parameters.read(DECLARED, query)
    except BadRequest:
        return
    spelling = parameters.spell(DECLARED, values)

    assert spelling == parameters.spell(DECLARED, parameters.read(DECLARED, spelling))


def test_the_order_of_names_is_that_of_the_ingress():
    values = {"size": 1, "loud": True, "name": "a b", "blob": b"\n"}
    told = "&".join(
        f"{name}={urllib.parse.quote(text, safe='')}"
        for name, text in (("blob", b"\n"), ("loud", "true"), ("name", "a b"), ("size", "1"))
    )

    assert told == parameters.spell(DECLARED, values)
