"""The control plane with fakes for its roles."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import memory


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A directory in memory: no container of these tests needs it, and each of them writes a database."""
    with memory.directory("test") as path:
        yield path
