"""The schema: one SQLite file by default; any database that SQLAlchemy knows is a URL away."""

from sqlalchemy import (
    Column,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

metadata = MetaData()

apps = Table(
    "apps",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("app_id", String(32), nullable=False),
    Column("version", Integer, nullable=False),  # of the revision that serves; 0: none
    Column("created_at", Float, nullable=False),
    Column("stopped_at", Float),  # null while deployed
)

revisions = Table(
    "revisions",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("app", String(64), nullable=False, index=True),
    Column("version", Integer, nullable=False),
    Column("manifest", Text, nullable=False),  # sealed: it holds no secret's value
    Column("fingerprint", String(64), nullable=False),
    Column("tag", String(50), nullable=False),
    Column("created_at", Float, nullable=False),
    UniqueConstraint("app", "version"),
)

endpoints = Table(
    "endpoints",
    metadata,
    Column("id", String(63), primary_key=True),  # the host's first label
    Column("app", String(64), nullable=False, index=True),
    Column("local_port", Integer, nullable=False),
)

secrets = Table(
    "secrets",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
    Column("keys", Text, nullable=False),  # JSON array, so that a list needs no decryption
    Column("inline", Integer, nullable=False),  # 1: came with a manifest and goes with its revision
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
)

proxy_tokens = Table(
    "proxy_tokens",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("secret_sha256", String(64), nullable=False),
    Column("created_at", Float, nullable=False),
)
