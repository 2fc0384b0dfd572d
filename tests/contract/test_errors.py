"""Each kind of error has its name and its HTTP status, by which clients of the API know it."""

import pytest

from homeport.contract import errors
from homeport.contract.errors import Failure, TooMany

STATUSES = {
    "Failure": 400,
    "ScriptError": 400,
    "ImageError": 400,
    "BadRequest": 400,
    "Unauthorized": 401,
    "Forbidden": 403,
    "NotFound": 404,
    "SecretMissing": 404,
    "AlreadyExists": 409,
    "LabelTaken": 409,
    "PortTaken": 409,
    "TooMany": 429,
    "CallFailed": 500,
    "IngressError": 500,
    "ServerUnreachable": 502,
    "NodeLost": 503,
    "StartError": 503,
    "CallTimeout": 504,
    "StorageError": 507,
}
KINDS = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, Failure)
}


def test_each_kind_has_a_status():
    assert STATUSES == {name: kind.status for name, kind in KINDS.items()}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_an_error_is_the_same_after_it_was_sent(kind):
    error = kind("the words", where="x.py:1", hint="do this", traceback="frames")
    received = Failure.from_dict(error.to_dict())

    assert kind is type(received)
    assert "the words" == str(received) == received.message
    assert ("x.py:1", "do this", "frames") == (received.where, received.hint, received.traceback)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_an_error_without_words_says_what_happened(kind):
    assert kind().message
    assert "\n" not in kind().message
    assert not kind().message.endswith(".")


@pytest.mark.parametrize("data", [{}, {"kind": "FromTheFuture"}, {"kind": None, "message": 3}])
def test_an_error_of_an_unknown_kind_is_a_failure(data):
    assert Failure is type(Failure.from_dict(data))


def test_too_many_says_when_to_try_again():
    assert 7 == TooMany("busy", retry_after_s=7).retry_after_s
    assert 0 == TooMany("busy").retry_after_s
