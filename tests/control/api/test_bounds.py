"""Numbers in the query of a request: bounded, or refused by name."""

import pytest

from homeport.contract.errors import BadRequest
from homeport.control.api import bounds


@pytest.mark.parametrize(
    ("asked", "waits"), [(-5.0, 0.0), (0.0, 0.0), (7.5, 7.5), (30.0, 30.0), (1e9, 30.0)]
)
def test_a_request_waits_for_thirty_seconds_at_most(asked, waits):
    assert waits == bounds.wait_s(asked)


@pytest.mark.parametrize("text", ["", "-1", "1.5", " 1", "1_0", "٣", "1234567890"])
def test_a_parameter_that_is_not_a_number_is_refused_by_its_name(text):
    with pytest.raises(BadRequest, match="`place` must be a number"):
        bounds.number("place", text)


def test_a_number_may_have_as_many_digits_as_allowed():
    assert (123456789, 1234567890) == (
        bounds.number("place", "123456789"),
        bounds.number("after", "1234567890", digits=19),
    )
