"""How the schema came to be what it is: one file for each step, run by alembic.

`docs/contributing/migration.md` says how to add one.
"""

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection


def config(connection: Connection | None = None) -> Config:
    """alembic's settings; there is no `alembic.ini`."""
    settings = Config()
    settings.set_main_option("script_location", "homeport.state:migrations")
    settings.attributes["connection"] = connection
    return settings


def upgrade(connection: Connection, to: str = "head") -> None:
    """Run the migrations that the database has not seen, in the connection's transaction."""
    command.upgrade(config(connection), to)
