"""Scopes, rates, expiry, rotation and last use of proxy tokens, and rate limits of endpoints."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    for column in (
        sa.Column("scopes", sa.Text, nullable=False, server_default=""),
        sa.Column("rate", sa.String(16), nullable=False, server_default=""),
        sa.Column("expires_at", sa.Float),
        sa.Column("used_at", sa.Float),
        sa.Column("former_sha256", sa.String(64), nullable=False, server_default=""),
        sa.Column("former_until", sa.Float, nullable=False, server_default="0"),
    ):
        op.add_column("proxy_tokens", column)
    op.create_table(
        "rate_limits",
        sa.Column("workspace", sa.String(64), nullable=False),
        sa.Column("environment", sa.String(64), nullable=False),
        sa.Column("app", sa.String(64), nullable=False),
        sa.Column("tag", sa.String(255), nullable=False),
        sa.Column("rate", sa.String(16), nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("workspace", "environment", "app", "tag", name="pk_rate_limits"),
    )
