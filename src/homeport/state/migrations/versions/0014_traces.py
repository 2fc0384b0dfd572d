"""A column of spawned calls: the trace that a call continues."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.add_column("calls", sa.Column("trace", sa.Text, nullable=False, server_default=""))
