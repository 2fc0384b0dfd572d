"""What the API answers to a call in JSON, and to one that fails."""

import pytest

from homeport.contract.api.calls import Call
from homeport.contract.errors import (
    BadRequest,
    CallFailed,
    CallTimeout,
    NotFound,
    StartError,
    TooMany,
)
from homeport.contract.scope import MAIN
from homeport.control.api.calls import Calls
from homeport.settings import Settings
from tests.functions import APP, served


@pytest.fixture
def settings(tmp_path):
    settings = Settings(home=tmp_path)
    settings.calls_socket.parent.mkdir(parents=True)
    return settings


async def test_a_value_comes_back_and_what_a_function_raises_is_told(settings):
    def add(a, b=1):
        return {"sum": a + b}

    def fails():
        raise KeyError("mine")

    def count():
        yield 1

    noun = Calls(settings, lambda _scope: "k", lambda _endpoint: None)
    with served(settings.calls_socket) as functions:
        functions.add(add)
        functions.add(fails)
        functions.add(count, generator=True)
        called = await noun.call(MAIN, APP, "add", Call(args=(1,), kwargs={"b": 2}))
        with pytest.raises(CallFailed, match="KeyError: 'mine'") as caught:
            await noun.call(MAIN, APP, "fails", Call())
        with pytest.raises(CallFailed, match="remote_gen"):
            await noun.call(MAIN, APP, "count", Call())

    assert {"sum": 3} == called.value
    assert "in fails" in caught.value.traceback


async def test_refusals_have_the_kind_of_their_status(settings):
    def one():
        return 1

    noun = Calls(settings, lambda _scope: "k", lambda _endpoint: None)
    with pytest.raises(StartError, match="ended before"):
        await noun.call(MAIN, APP, "one", Call())
    with served(settings.calls_socket) as functions:
        functions.add(one)
        for status, kind in (
            (400, BadRequest),
            (404, NotFound),
            (429, TooMany),
            (500, StartError),
            (503, StartError),
            (504, CallTimeout),
        ):
            functions.refusals.append((status, "homeport: why"))
            with pytest.raises(kind) as caught:
                await noun.call(MAIN, APP, "one", Call())
            assert kind is NotFound or "`one`: why" == caught.value.message
        with pytest.raises(NotFound, match="no deployed app"):
            await noun.call(MAIN, APP, "other", Call())


async def test_class_parameters_are_plain_and_quoted(settings):
    def one():
        return 1

    noun = Calls(settings, lambda _scope: "k", lambda _endpoint: None)
    with served(settings.calls_socket) as functions:
        functions.add(one)
        await noun.call(MAIN, APP, "one", Call(parameters={"b": True, "a": "x&y=\n", "c": 7}))
        with pytest.raises(BadRequest, match="class parameter"):
            await noun.call(MAIN, APP, "one", Call(parameters={"a": [1]}))

    assert b"a=x%26y%3D%0A&b=true&c=7" == functions.queries[-1]
