"""A table for each try to deploy an app."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.create_table(
        "deploys",
        sa.Column("id", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("workspace", sa.String(64), nullable=False),
        sa.Column("environment", sa.String(64), nullable=False),
        sa.Column("app", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("ended_at", sa.Float),
        sa.Column("version", sa.Integer),
        sa.Column("tag", sa.String(50), nullable=False),
        sa.Column("by", sa.String(16), nullable=False),
        sa.Column("user", sa.String(64), nullable=False),
        sa.Column("result", sa.String(32), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_deploys"),
    )
    op.create_index("ix_deploys_app", "deploys", ["workspace", "environment", "app"])
