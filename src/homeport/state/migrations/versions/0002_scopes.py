"""Workspace and environment in every key, and a table for cold starts.

SQLite cannot change a key, so each table is made again and filled from the old one.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

MAIN = "main"
SCOPE = ("workspace", "environment")


def scope() -> list[sa.Column[str]]:
    return [
        sa.Column("workspace", sa.String(64), nullable=False),
        sa.Column("environment", sa.String(64), nullable=False),
    ]


def key(table: str, *columns: str) -> sa.PrimaryKeyConstraint:
    return sa.PrimaryKeyConstraint(*columns, name=f"pk_{table}")


def tables() -> dict[str, list[sa.schema.SchemaItem]]:
    return {
        "apps": [
            *scope(),
            sa.Column("name", sa.String(64), nullable=False),
            sa.Column("app_id", sa.String(32), nullable=False),
            sa.Column("version", sa.Integer, nullable=False),
            sa.Column("created_at", sa.Float, nullable=False),
            sa.Column("stopped_at", sa.Float),
            key("apps", "workspace", "environment", "name"),
        ],
        "revisions": [
            sa.Column("id", sa.String(32), nullable=False),
            *scope(),
            sa.Column("app", sa.String(64), nullable=False),
            sa.Column("version", sa.Integer, nullable=False),
            sa.Column("manifest", sa.Text, nullable=False),
            sa.Column("fingerprint", sa.String(64), nullable=False),
            sa.Column("tag", sa.String(50), nullable=False),
            sa.Column("created_at", sa.Float, nullable=False),
            key("revisions", "id"),
            sa.UniqueConstraint(
                *("workspace", "environment", "app", "version"),
                name="uq_revisions_workspace_environment_app_version",
            ),
        ],
        "endpoints": [
            *scope(),
            sa.Column("id", sa.String(63), nullable=False),
            sa.Column("app", sa.String(64), nullable=False),
            sa.Column("local_port", sa.Integer, nullable=False),
            key("endpoints", "workspace", "environment", "id"),
        ],
        "secrets": [
            *scope(),
            sa.Column("name", sa.String(255), nullable=False),
            sa.Column("sealed", sa.LargeBinary, nullable=False),
            sa.Column("keys", sa.Text, nullable=False),
            sa.Column("inline", sa.Integer, nullable=False),
            sa.Column("created_at", sa.Float, nullable=False),
            sa.Column("updated_at", sa.Float, nullable=False),
            key("secrets", "workspace", "environment", "name"),
        ],
        "proxy_tokens": [
            sa.Column("id", sa.String(40), nullable=False),
            *scope(),
            sa.Column("name", sa.String(64), nullable=False),
            sa.Column("secret_sha256", sa.String(64), nullable=False),
            sa.Column("created_at", sa.Float, nullable=False),
            key("proxy_tokens", "id"),
        ],
    }


def upgrade() -> None:
    op.drop_index("ix_revisions_app", "revisions")
    op.drop_index("ix_endpoints_app", "endpoints")
    for name, items in tables().items():
        op.rename_table(name, f"{name}_0001")
        x = op.create_table(name, *items)
        columns = [f'"{column.name}"' for column in x.columns if column.name not in SCOPE]
        copied = ", ".join(columns)
        op.execute(
            f"INSERT INTO {name} (workspace, environment, {copied}) "  # noqa: S608 - our own names
            f"SELECT '{MAIN}', '{MAIN}', {copied} FROM {name}_0001"
        )
        op.drop_table(f"{name}_0001")
    op.create_table(
        "cold_starts",
        sa.Column("container", sa.String(32), nullable=False),
        *scope(),
        sa.Column("app", sa.String(64), nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("start", sa.Text, nullable=False),
        key("cold_starts", "container"),
    )
    op.create_index("ix_cold_starts_app", "cold_starts", ["workspace", "environment", "app", "at"])
