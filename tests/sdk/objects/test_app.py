"""An app: the names of what it has, and another app's functions in it."""

import modal
import pytest
from modal.exception import InvalidError


def _declare(app: modal.App, name: str):
    def function():
        return name

    function.__qualname__ = function.__name__ = name
    return app.function()(function)


def _declare_class(app: modal.App, name: str):
    return app.cls()(type(name, (), {"__qualname__": name}))


def test_an_included_app_brings_its_functions_and_classes():
    one, other = modal.App("one"), modal.App("other")
    mine, theirs = _declare(one, "mine"), _declare(other, "theirs")
    model = _declare_class(other, "Model")

    assert one is one.include(other)
    assert {"mine": mine, "theirs": theirs} == dict(one.functions)
    assert {"Model": model} == dict(one.classes)
    assert {"theirs": theirs} == dict(other.functions)


def test_a_function_that_an_included_app_replaces_is_named():
    one, other = modal.App("one"), modal.App("other")
    for app in (one, other):
        _declare(app, "same")
        _declare_class(app, "Same")
    with pytest.warns(UserWarning, match="Overriding") as told:
        one.include(other)
    again = one.include(other)  # the same ones once more replace nothing

    assert ["Overriding existing function same", "Overriding existing class Same"] == [
        str(warning.message) for warning in told
    ]
    assert other.functions["same"] is again.functions["same"]
    assert other.classes["Same"] is again.classes["Same"]


def test_a_name_is_a_string():
    with pytest.raises(InvalidError, match="Must be string"):
        modal.App(name=5)


def test_a_local_entrypoint_is_called_as_the_function_that_it_is():
    entrypoint = modal.App().local_entrypoint(name="main")(lambda count, *, step=1: count + step)

    assert 5 == entrypoint(3, step=2)
