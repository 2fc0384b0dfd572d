"""The control plane with fakes for its roles."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from homeport.state.database import Database
from tests import databases, memory


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A directory in memory: no container of these tests needs it, and each of them writes a database."""
    with memory.directory("test") as path:
        yield path


@pytest.fixture
async def database(tmp_path) -> AsyncIterator[Database]:
    """A database with the newest tables: tests/state proves that SQLite and PostgreSQL keep the rows alike."""
    database = databases.opened(tmp_path)
    yield database
    await database.close()
