"""The examples in docstrings of all modules are right."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(
    ".".join(path.relative_to(base).with_suffix("").parts)
    for base, folder in (
        (ROOT / "src", "homeport"),
        (ROOT, "docs/generate"),
        (ROOT, "release"),
        (ROOT, "tests"),
        (ROOT, "bench"),
    )
    for path in (base / folder).rglob("*.py")
    if "__pycache__" not in path.parts and ">>> " in path.read_text()
)


@pytest.mark.parametrize("name", [name for name in MODULES if name != __name__])
def test_the_examples_in_docstrings_are_true(name):
    found = doctest.testmod(importlib.import_module(name))

    assert found.attempted
    assert 0 == found.failed


def test_examples_are_looked_for_in_every_folder():
    assert {"homeport.contract.names", "docs.generate.source", "release.notes"} <= set(MODULES)
