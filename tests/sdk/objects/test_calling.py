"""What a call says of a server that does not pass it on."""

import json

import pytest

from homeport.contract import errors
from homeport.sdk import exception
from homeport.sdk.objects import calling


def refusal(failure: errors.Failure) -> bytes:
    """Return the body of the API's refusal."""
    return json.dumps({"error": failure.to_dict()}).encode()


def test_a_refusal_is_the_error_that_a_script_knows():
    told = calling._from_remote_api(refusal(errors.NotFound("No App with name 'shop' found.")))

    assert isinstance(told, exception.NotFoundError)
    assert "No App with name 'shop' found." in str(told)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"error": 5}'])
def test_another_answer_is_no_homeports(body):
    told = calling._from_remote_api(body)

    assert isinstance(told, exception.ExecutionError)
    assert "HOMEPORT_SERVER is not a homeport server's API" in str(told)
