"""An empty database for each test: SQLite, and PostgreSQL."""

import asyncio

import pytest

from homeport.state import schema, urls
from homeport.state.database import Database


@pytest.fixture
async def database(database_setting, tmp_path):
    """Yield an open database with the newest tables."""
    database = Database(urls.of(database_setting, tmp_path))
    await asyncio.to_thread(schema.prepare, database)
    yield database
    await database.close()
