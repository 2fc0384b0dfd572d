"""What `homeport node join` asks of the agent. `tests/journeys/test_nodes.py` and `test_node_service.py` join for real."""

import pytest

from homeport.cli.joining import _variables
from homeport.contract import joining
from homeport.contract.errors import BadRequest


def test_a_machine_that_has_joined_needs_no_more_words():
    assert {} == _variables("", "", "", "", {})
    assert {joining.REACH: ":7700"} == _variables("", "", "", ":7700", {})


@pytest.mark.parametrize(
    ("address", "token", "name", "labels", "words"),
    [
        ("10.0.0.1", "", "", {}, "needs the address and a token"),
        ("", "t", "", {}, "needs the address and a token"),
        ("", "", "b", {}, "gets its name and its labels when it joins"),
        ("", "", "", {"region": "eu"}, "gets its name and its labels when it joins"),
    ],
)
def test_words_that_do_not_belong_together_are_refused(address, token, name, labels, words):
    with pytest.raises(BadRequest, match=words):
        _variables(address, token, name, "", labels)
