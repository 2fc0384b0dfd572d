"""Columns that say which CA refused or issued a certificate, and when it wants to be asked again."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    retry_at = sa.Column("retry_at", sa.Float, nullable=False, server_default="0")
    serial = sa.Column("serial", sa.String(64), nullable=False, server_default="")
    op.add_column("certificate_tries", retry_at)
    op.add_column("certificate_tries", _source())
    op.add_column("certificate_issues", serial)
    op.add_column("certificate_issues", _source())


def _source() -> sa.Column[str]:
    return sa.Column("source", sa.String(16), nullable=False, server_default="")
