"""Columns that say what is fenced on a machine, whether it was given up, and its labels."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    op.add_column(
        "nodes", sa.Column("generation", sa.BigInteger, nullable=False, server_default="0")
    )
    op.add_column("nodes", sa.Column("away", sa.Integer, nullable=False, server_default="0"))
    op.add_column("nodes", sa.Column("labels", sa.Text, nullable=False, server_default="{}"))
