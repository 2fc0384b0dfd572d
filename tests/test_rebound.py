"""A test that leaves a value in a module is noticed."""

from homeport.runner import ways
from tests import rebound


def test_a_value_that_a_function_puts_into_its_module_shows(monkeypatch):
    before = rebound.held()
    monkeypatch.setattr(ways, "_target", "/run/urls.sock")
    after = rebound.held()

    assert ["homeport.runner.ways._target"] == [
        name for name in before if before[name] != after[name]
    ]
