"""An empty database for each test: SQLite, and PostgreSQL."""

import asyncio

import pytest

from homeport.state import schema, urls
from homeport.state.database import Database


@pytest.fixture
def empty_database(database_setting, tmp_path):
    """Yield a database without tables."""
    database = Database(urls.of(database_setting, tmp_path))
    yield database
    database.dispose()


@pytest.fixture
async def database(empty_database):
    """Yield an open database with the newest tables."""
    await asyncio.to_thread(schema.prepare, empty_database)
    yield empty_database
    await empty_database.close()
