"""`modal.config`."""

import pytest

from homeport.sdk import alias


def test_the_configuration_is_a_mapping(monkeypatch):
    config = alias.submodule("config").config

    assert ("main", "main", None, "or this") == (
        config["environment"],
        config.get("environment"),
        config.get("unknown"),
        config.get("unknown", "or this"),
    )
    monkeypatch.setenv("MODAL_ENVIRONMENT", "dev")
    monkeypatch.setenv("MODAL_FORCE_BUILD", "1")
    assert ("dev", True) == (config["environment"], config["force_build"])
    with pytest.raises(KeyError):
        config["unknown"]
