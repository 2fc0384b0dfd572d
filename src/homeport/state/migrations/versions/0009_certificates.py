"""Tables for certificates, for the orders of them that failed, and for attached domains."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.create_table(
        "certificates",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("hosts", sa.Text, nullable=False),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("serial", sa.String(64), nullable=False),
        sa.Column("not_before", sa.Float, nullable=False),
        sa.Column("not_after", sa.Float, nullable=False),
        sa.Column("unwanted_since", sa.Float),
        sa.PrimaryKeyConstraint("name", name="pk_certificates"),
    )
    op.create_table(
        "certificate_tries",
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("failed_at", sa.Text, nullable=False),
        sa.Column("next_at", sa.Float, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("hint", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("host", name="pk_certificate_tries"),
    )
    op.create_table(
        "certificate_issues",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("hosts", sa.Text, nullable=False),
        sa.Column("renewal", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("name", "at", name="pk_certificate_issues"),
    )
    op.create_table(
        "domains",
        sa.Column("domain", sa.String(255), nullable=False),
        sa.Column("workspace", sa.String(64), nullable=False),
        sa.Column("environment", sa.String(64), nullable=False),
        sa.Column("app", sa.String(64), nullable=False),
        sa.Column("tag", sa.String(255), nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("domain", name="pk_domains"),
    )
