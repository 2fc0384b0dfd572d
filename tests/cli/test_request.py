"""What `homeport request` says."""

import doctest

import pytest

from homeport.cli import request as command
from homeport.cli.endpoint import parts
from homeport.contract.errors import BadRequest
from tests.cli.test_waterfall import asked


def test_the_examples_in_the_docstrings_hold():
    assert 0 == doctest.testmod(command).failed


@pytest.mark.parametrize("text", ["", "5", "2d", "-1s", "1 s"])
def test_a_text_that_is_no_length_of_time_is_an_error(text):
    with pytest.raises(BadRequest):
        command._milliseconds(text)


def test_a_request_is_described_in_three_lines():
    first, second, _ = command.lines_of(asked(query="b=1", ended="visitor left", status=0))

    assert "GET /a?b=1 -> no response, visitor left" == first
    assert "shop.price v3 ta-1, 1b0c" == second
    assert "from ::1" == command.lines_of(asked(client="::1"))[-1]
    assert command.lines_of(asked(kind="call", version=None))[0].startswith("call -> 200 OK")


def test_a_request_that_another_machine_answered_names_it():
    assert "shop.price v3 ta-1 on worker-1, 1b0c" == command.lines_of(asked(node="worker-1"))[1]


def test_an_app_with_a_dot_in_its_name_is_shown_as_commands_take_it():
    request = asked(app="my.app")

    assert "my.app/price v3 ta-1, 1b0c" == command.lines_of(request)[1]
    assert ("my.app", "price") == parts(command._row(request)[1])
