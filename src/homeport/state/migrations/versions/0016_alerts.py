"""Tables for alerts, and for their messages that were not delivered yet."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    op.create_table(
        "alerts",
        *_scope(),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("app", sa.String(64), nullable=False),
        sa.Column("tag", sa.String(255), nullable=False),
        sa.Column("threshold", sa.Float, nullable=False),
        sa.Column("window_s", sa.Float, nullable=False),
        sa.Column("url", sa.LargeBinary, nullable=False),
        sa.Column("trusted", sa.Integer, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("since", sa.Float, nullable=False),
        sa.Column("good_since", sa.Float),
        sa.Column("told", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("workspace", "environment", "name", name="pk_alerts"),
    )
    op.create_table(
        "alert_messages",
        sa.Column("id", sa.BigInteger, nullable=False, autoincrement=False),
        *_scope(),
        sa.Column("alert", sa.String(64), nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("next_at", sa.Float, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_alert_messages"),
    )


def _scope() -> tuple[sa.Column[str], sa.Column[str]]:
    return (
        sa.Column("workspace", sa.String(64), nullable=False),
        sa.Column("environment", sa.String(64), nullable=False),
    )
