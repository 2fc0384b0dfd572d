"""Tables for schedules and for what `update_autoscaler` set; the options of a call that `with_options` made."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.create_table(
        "schedules",
        sa.Column("workspace", sa.String(64), nullable=False),
        sa.Column("environment", sa.String(64), nullable=False),
        sa.Column("app", sa.String(64), nullable=False),
        sa.Column("function", sa.String(128), nullable=False),
        sa.Column("revision", sa.String(32), nullable=False),
        sa.Column("schedule", sa.Text, nullable=False),
        sa.Column("anchored_at", sa.Float, nullable=False),
        sa.Column("next_at", sa.Float, nullable=False),
        sa.Column("last_call", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint(
            *("workspace", "environment", "app", "function"), name="pk_schedules"
        ),
    )
    op.create_table(
        "scaling",
        sa.Column("workspace", sa.String(64), nullable=False),
        sa.Column("environment", sa.String(64), nullable=False),
        sa.Column("app", sa.String(64), nullable=False),
        sa.Column("function", sa.String(255), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("parameters", sa.Text, nullable=False),
        sa.Column("revision", sa.String(32), nullable=False),
        sa.Column("scaling", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint(
            *("workspace", "environment", "app", "function", "digest"), name="pk_scaling"
        ),
    )
    op.add_column("calls", sa.Column("options", sa.LargeBinary))
