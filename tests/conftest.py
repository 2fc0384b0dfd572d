"""What every test starts from: a home of its own, and nothing of the outer environment."""

import os
from pathlib import Path

import pytest

APPS = Path(__file__).parent / "apps"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("HOMEPORT_", "MODAL_")):
            monkeypatch.delenv(name)


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A HOMEPORT_HOME that goes with the test."""
    path = tmp_path / "home"
    path.mkdir(mode=0o700)
    monkeypatch.setenv("HOMEPORT_HOME", str(path))
    return path


@pytest.fixture
def apps() -> Path:
    """The folder of users' scripts."""
    return APPS
