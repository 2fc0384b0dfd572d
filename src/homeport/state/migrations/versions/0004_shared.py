"""Tables for dicts and queues."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "objects",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("workspace", sa.String(64), nullable=False),
        sa.Column("environment", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("name", sa.String(64)),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_objects"),
        sa.UniqueConstraint(
            *("workspace", "environment", "kind", "name"),
            name="uq_objects_workspace_environment_kind_name",
        ),
    )
    op.create_table(
        "dict_items",
        sa.Column("dict", sa.String(32), nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("place", sa.BigInteger, nullable=False),
        sa.Column("key", sa.LargeBinary, nullable=False),
        sa.Column("value", sa.LargeBinary, nullable=False),
        sa.Column("used_at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("dict", "digest", name="pk_dict_items"),
    )
    op.create_index("ix_dict_items_place", "dict_items", ["dict", "place"])
    op.create_index("ix_dict_items_used_at", "dict_items", ["used_at"])
    op.create_table(
        "queue_partitions",
        sa.Column("queue", sa.String(32), nullable=False),
        sa.Column("partition", sa.String(64), nullable=False),
        sa.Column("length", sa.Integer, nullable=False),
        sa.Column("expires_at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("queue", "partition", name="pk_queue_partitions"),
    )
    op.create_index("ix_queue_partitions_expires_at", "queue_partitions", ["expires_at"])
    op.create_table(
        "queue_items",
        sa.Column("queue", sa.String(32), nullable=False),
        sa.Column("partition", sa.String(64), nullable=False),
        sa.Column("place", sa.BigInteger, nullable=False),
        sa.Column("value", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("queue", "partition", "place", name="pk_queue_items"),
    )
