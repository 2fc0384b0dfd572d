"""How a command asks `python -m homeport.state`."""

import re

from homeport.cli import backup
from homeport.settings import Settings
from homeport.state import schema, urls
from homeport.state.database import Database
from tests.postgres import PASSWORD


def test_doctor_is_told_which_database_it_is_and_that_it_answers(database_setting, home):
    settings = Settings(home=home, database=database_setting)
    before = backup.ask(settings, "look")["told"]
    database = Database(urls.of(database_setting, home))
    schema.prepare(database)
    database.dispose()
    after = backup.ask(settings, "look")["told"]

    assert "once a server has run" in before or "schema none yet" in before
    assert re.fullmatch(r"(SQLite|PostgreSQL) [\d.]+, .+, schema \d{4}", after)
    assert PASSWORD not in before + after
