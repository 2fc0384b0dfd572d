"""Scripts that are loaded in the tests' own process."""

import sys

import pytest


@pytest.fixture(autouse=True)
def _own_path(monkeypatch):
    """The loader puts a script's directory first in `sys.path`: for this test alone."""
    monkeypatch.setattr(sys, "path", list(sys.path))
