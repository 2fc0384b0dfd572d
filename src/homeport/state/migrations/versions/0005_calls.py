"""A table for spawned calls."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "calls",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("place", sa.Integer, nullable=False),
        sa.Column("workspace", sa.String(64), nullable=False),
        sa.Column("environment", sa.String(64), nullable=False),
        sa.Column("endpoint", sa.String(63), nullable=False),
        sa.Column("app", sa.String(64), nullable=False),
        sa.Column("tag", sa.String(255), nullable=False),
        sa.Column("parameters", sa.Text, nullable=False),
        sa.Column("parent", sa.String(64), nullable=False),
        sa.Column("python", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("container", sa.String(32), nullable=False),
        sa.Column("due_at", sa.Float, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
        sa.Column("input", sa.LargeBinary),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("outcome_python", sa.String(16), nullable=False),
        sa.Column("outcome", sa.LargeBinary),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("started_at", sa.Float),
        sa.Column("ended_at", sa.Float),
        sa.PrimaryKeyConstraint("id", "place", name="pk_calls"),
    )
    op.create_index("ix_calls_waiting", "calls", ["state", "endpoint", "due_at"])
    op.create_index("ix_calls_parent", "calls", ["parent"])
    op.create_index("ix_calls_created_at", "calls", ["created_at"])
