"""The schema, for SQLite and PostgreSQL alike.

Every table has `workspace` and `environment` in its key or beside it (`contract/scope.py`).
A change here needs a migration in `migrations/versions`, and SCHEMA is the number of the newest one.
"""

import functools

from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
    and_,
    bindparam,
)

from homeport.contract.scope import Scope

SCHEMA = "0019"

metadata = MetaData(
    naming_convention={"pk": "pk_%(table_name)s", "uq": "uq_%(table_name)s_%(column_0_N_name)s"}
)


def _scope() -> tuple[Column[str], Column[str]]:
    return (
        Column("workspace", String(64), nullable=False),
        Column("environment", String(64), nullable=False),
    )


@functools.lru_cache(maxsize=4096)  # without, most of the time of making a statement
def here(table: Table, scope: Scope) -> ColumnElement[bool]:
    """Return the condition that a row is of an environment."""
    return and_(table.c.workspace == scope.workspace, table.c.environment == scope.environment)


def meant(table: Table) -> ColumnElement[bool]:
    """Return the condition that a row is of the environment in the statement's parameters (`parameters`)."""
    return and_(
        table.c.workspace == bindparam("in_workspace"),
        table.c.environment == bindparam("in_environment"),
    )


def parameters(scope: Scope) -> dict[str, str]:
    """Return the parameters that say which environment is meant.

    They differ from the columns' names, because an UPDATE takes a parameter with a column's name for a new value.
    """
    return {"in_workspace": scope.workspace, "in_environment": scope.environment}


workspaces = Table(
    "workspaces",
    metadata,
    Column("name", String(64), nullable=False),
    Column("slug", String(64), nullable=False),  # that its URLs begin with
    Column("created_at", Float, nullable=False),
    PrimaryKeyConstraint("name"),
)

environments = Table(
    "environments",
    metadata,
    *_scope(),
    Column("suffix", String(64), nullable=False),  # of the workspace in URLs; empty: none
    Column("created_at", Float, nullable=False),
    PrimaryKeyConstraint("workspace", "environment"),
)

apps = Table(
    "apps",
    metadata,
    *_scope(),
    Column("name", String(64), nullable=False),
    Column("app_id", String(32), nullable=False),
    Column("version", Integer, nullable=False),  # of the revision that serves; 0: none
    Column("created_at", Float, nullable=False),
    Column("stopped_at", Float),  # null while deployed
    PrimaryKeyConstraint("workspace", "environment", "name"),
)

revisions = Table(
    "revisions",
    metadata,
    Column("id", String(32), nullable=False),
    *_scope(),
    Column("app", String(64), nullable=False),
    Column("version", Integer, nullable=False),
    Column("manifest", Text, nullable=False),  # sealed: it holds no secret's value
    Column("fingerprint", String(64), nullable=False),
    Column("tag", String(50), nullable=False),
    Column("created_at", Float, nullable=False),
    PrimaryKeyConstraint("id"),
    UniqueConstraint("workspace", "environment", "app", "version"),
)

endpoints = Table(
    "endpoints",
    metadata,
    *_scope(),
    Column("id", String(63), nullable=False),  # the host's first label
    Column("app", String(64), nullable=False),
    Column("local_port", Integer, nullable=False),
    PrimaryKeyConstraint("workspace", "environment", "id"),
)

secrets = Table(
    "secrets",
    metadata,
    *_scope(),
    Column("name", String(255), nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("keys", Text, nullable=False),  # JSON array, so that a list needs no decryption
    Column("inline", Integer, nullable=False),  # 1: came with a manifest and goes with its revision
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    PrimaryKeyConstraint("workspace", "environment", "name"),
)

proxy_tokens = Table(
    "proxy_tokens",
    metadata,
    Column("id", String(40), nullable=False),  # a visitor sends no more than this and the secret
    *_scope(),
    Column("name", String(64), nullable=False),
    Column("secret_sha256", String(64), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("scopes", Text, nullable=False, server_default=""),  # by commas; empty: all
    Column("rate", String(16), nullable=False, server_default=""),  # `10/s`; empty: no limit
    Column("expires_at", Float),  # null: never
    Column("used_at", Float),  # null: not yet
    Column("former_sha256", String(64), nullable=False, server_default=""),  # before a rotation
    Column("former_until", Float, nullable=False, server_default="0"),
    PrimaryKeyConstraint("id"),
)

#: How many requests the endpoints of apps take.
rate_limits = Table(
    "rate_limits",
    metadata,
    *_scope(),
    Column("app", String(64), nullable=False),
    Column("tag", String(255), nullable=False),
    Column("rate", String(16), nullable=False),  # such as `10/s`
    Column("created_at", Float, nullable=False),
    PrimaryKeyConstraint("workspace", "environment", "app", "tag"),
)

#: The changes, and who made them. Rows outlive the objects that they are about, also the environment.
audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger, nullable=False, autoincrement=False),
    Column("at", Float, nullable=False),
    *_scope(),  # empty: the whole server, or the whole workspace
    Column("by", String(16), nullable=False),
    Column("user", String(64), nullable=False),
    Column("token", String(64), nullable=False),
    Column("source", String(64), nullable=False),
    Column("action", String(64), nullable=False),
    Column("result", String(32), nullable=False),
    Column("app", String(64), nullable=False),
    Column("target", Text, nullable=False),
    PrimaryKeyConstraint("id"),
    Index("ix_audit_at", "at"),
)

#: Each try to change what an app serves, the newest ones of each app.
deploys = Table(
    "deploys",
    metadata,
    Column("id", BigInteger, nullable=False, autoincrement=False),
    *_scope(),
    Column("app", String(64), nullable=False),
    Column("kind", String(16), nullable=False),  # deploy, rollback, stop
    Column("at", Float, nullable=False),
    Column("ended_at", Float),  # null while it runs
    Column("version", Integer),  # that it made; null: none
    Column("tag", String(50), nullable=False),
    Column("by", String(16), nullable=False),
    Column("user", String(64), nullable=False),
    Column("result", String(32), nullable=False),
    Column("reason", Text, nullable=False),
    PrimaryKeyConstraint("id"),
    Index("ix_deploys_app", "workspace", "environment", "app"),
)

alerts = Table(
    "alerts",
    metadata,
    *_scope(),
    Column("name", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("app", String(64), nullable=False),
    Column("tag", String(255), nullable=False),
    Column("threshold", Float, nullable=False),
    Column("window_s", Float, nullable=False),
    Column("url", LargeBinary, nullable=False),  # sealed: it may hold a secret
    Column("trusted", Integer, nullable=False),  # 1: it may be any address, also of this machine
    Column("created_at", Float, nullable=False),
    Column("state", String(16), nullable=False),
    Column("since", Float, nullable=False),
    Column(
        "good_since", Float
    ),  # of one that fires: since when nothing is wrong; null: it still is
    Column("told", Text, nullable=False),
    PrimaryKeyConstraint("workspace", "environment", "name"),
)

#: Messages of alerts that were not delivered yet.
alert_messages = Table(
    "alert_messages",
    metadata,
    Column("id", BigInteger, nullable=False, autoincrement=False),
    *_scope(),
    Column("alert", String(64), nullable=False),
    Column("at", Float, nullable=False),
    Column("body", Text, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("next_at", Float, nullable=False),
    Column("error", Text, nullable=False),
    PrimaryKeyConstraint("id"),
)

#: Tokens of the API. A token may be for several environments of its workspace.
api_tokens = Table(
    "api_tokens",
    metadata,
    Column("id", String(40), nullable=False),  # `ak-…`
    Column("workspace", String(64), nullable=False),
    Column("name", String(64), nullable=False),
    Column("user", String(64), nullable=False),  # empty: no user in particular
    Column("scopes", String(64), nullable=False),  # separated by commas
    Column("environments", Text, nullable=False),  # separated by commas; empty: all
    Column("secret_sha256", String(64), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float),  # null: never
    Column("used_at", Float),  # null: not yet
    PrimaryKeyConstraint("id"),
)

volumes = Table(
    "volumes",
    metadata,
    Column("id", String(32), nullable=False),  # of its directory, too
    *_scope(),
    Column("name", String(64)),  # null: ephemeral
    Column("created_at", Float, nullable=False),
    PrimaryKeyConstraint("id"),
    UniqueConstraint("workspace", "environment", "name"),
)

#: Dicts and queues, which containers share. Keys and values are pickles, which only containers read.
objects = Table(
    "objects",
    metadata,
    Column("id", String(32), nullable=False),  # `di-…` or `qu-…`
    *_scope(),
    Column("kind", String(8), nullable=False),  # `dict` or `queue`
    Column("name", String(64)),  # null: ephemeral
    Column("created_at", Float, nullable=False),
    PrimaryKeyConstraint("id"),
    UniqueConstraint("workspace", "environment", "kind", "name"),
)

dict_items = Table(
    "dict_items",
    metadata,
    Column("dict", String(32), nullable=False),
    Column(
        "digest", LargeBinary(32), nullable=False
    ),  # the key's SHA-256, because a key has any length
    Column("place", BigInteger, nullable=False),  # in the order of insertion
    Column("key", LargeBinary, nullable=False),
    Column("value", LargeBinary, nullable=False),
    Column("used_at", Float, nullable=False),  # to the hour
    PrimaryKeyConstraint("dict", "digest"),
    Index("ix_dict_items_place", "dict", "place"),
    Index("ix_dict_items_used_at", "used_at"),
)

queue_partitions = Table(
    "queue_partitions",
    metadata,
    Column("queue", String(32), nullable=False),
    Column("partition", String(64), nullable=False),  # empty: the default one
    Column("length", Integer, nullable=False),  # how many values it has
    Column("expires_at", Float, nullable=False),
    PrimaryKeyConstraint("queue", "partition"),
    Index("ix_queue_partitions_expires_at", "expires_at"),
)

queue_items = Table(
    "queue_items",
    metadata,
    Column("queue", String(32), nullable=False),
    Column("partition", String(64), nullable=False),
    Column("place", BigInteger, nullable=False),  # in the order of the puts
    Column("value", LargeBinary, nullable=False),
    PrimaryKeyConstraint("queue", "partition", "place"),
)

#: Calls that `.spawn` made. Inputs and outcomes are pickles, which only containers and callers read.
calls = Table(
    "calls",
    metadata,
    Column("id", String(64), nullable=False),  # `fc-…`
    Column("place", Integer, nullable=False),  # of the input, in a `spawn_map`
    *_scope(),
    Column("endpoint", String(63), nullable=False),  # contract/calls.py
    Column("app", String(64), nullable=False),
    Column("tag", String(255), nullable=False),
    Column("parameters", Text, nullable=False),  # of the class, canonical
    Column("parent", String(64), nullable=False),  # the call that made it; empty: none
    Column("python", String(16), nullable=False),  # of its caller
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),  # the first is 0
    Column("container", String(32), nullable=False),  # that has claimed the attempt
    Column("due_at", Float, nullable=False),  # of a waiting call: not earlier
    Column("note", Text, nullable=False),  # why it waits again
    Column("input", LargeBinary),  # null: it is in a file
    Column("kind", String(16), nullable=False),  # of the outcome
    Column("outcome_python", String(16), nullable=False),
    Column("outcome", LargeBinary),  # null: none yet, or it is in a file
    Column("created_at", Float, nullable=False),
    Column("started_at", Float),
    Column("ended_at", Float),
    Column("options", LargeBinary),  # of `with_options`, sealed; null: there are none
    Column("trace", Text, nullable=False, server_default=""),  # that it continues; empty: none
    PrimaryKeyConstraint("id", "place"),
    Index("ix_calls_waiting", "state", "endpoint", "due_at"),
    Index("ix_calls_parent", "parent"),
    Index("ix_calls_created_at", "created_at"),
)

#: When the functions of deployed apps run by themselves.
schedules = Table(
    "schedules",
    metadata,
    *_scope(),
    Column("app", String(64), nullable=False),
    Column("function", String(128), nullable=False),
    Column("revision", String(32), nullable=False),  # that has the schedule
    Column("schedule", Text, nullable=False),  # as JSON (contract/schedules.py)
    Column("anchored_at", Float, nullable=False),  # from where a period counts
    Column("next_at", Float, nullable=False),
    Column("last_call", String(64), nullable=False),  # of the newest run; empty: none yet
    PrimaryKeyConstraint("workspace", "environment", "app", "function"),
)

#: When deployed apps stop by themselves.
expiries = Table(
    "expiries",
    metadata,
    *_scope(),
    Column("app", String(64), nullable=False),
    Column("seconds", Float, nullable=False),  # that each deploy adds
    Column("expires_at", Float, nullable=False),
    PrimaryKeyConstraint("workspace", "environment", "app"),
)

#: Versions that serve, or have served, a part of the requests.
canaries = Table(
    "canaries",
    metadata,
    *_scope(),
    Column("app", String(64), nullable=False),
    Column("version", Integer, nullable=False),
    Column("revision", String(32), nullable=False),
    Column("before", Integer, nullable=False),  # the version that it is compared with
    Column("per_mille", Integer, nullable=False),  # of the requests
    Column("began_at", Float, nullable=False),
    Column("ends_at", Float, nullable=False),
    Column("state", String(16), nullable=False),  # running, promoted, rolled back
    Column("ended_at", Float),
    Column("reason", Text, nullable=False),
    Column("counts", Text, nullable=False),  # as JSON; empty while it runs
    PrimaryKeyConstraint("workspace", "environment", "app", "version"),
)

#: What `update_autoscaler` has set, until the next deploy.
scaling = Table(
    "scaling",
    metadata,
    *_scope(),
    Column("app", String(64), nullable=False),
    Column("function", String(255), nullable=False),  # or `Class.*`
    Column("digest", String(64), nullable=False),  # of the parameters, which have any length
    Column("parameters", Text, nullable=False),  # of the class, canonical
    Column("revision", String(32), nullable=False),
    Column("scaling", Text, nullable=False),  # as JSON (contract/api/functions.py)
    PrimaryKeyConstraint("workspace", "environment", "app", "function", "digest"),
)

#: Certificates of hosts. A host is unique among all environments, so they have no scope.
certificates = Table(
    "certificates",
    metadata,
    Column("name", String(64), nullable=False),  # of its file, too
    Column("hosts", Text, nullable=False),  # as JSON
    Column("source", String(16), nullable=False),
    Column("serial", String(64), nullable=False),
    Column("not_before", Float, nullable=False),
    Column("not_after", Float, nullable=False),
    Column("unwanted_since", Float),  # null: it is wanted
    PrimaryKeyConstraint("name"),
)

#: Hosts whose last order failed.
certificate_tries = Table(
    "certificate_tries",
    metadata,
    Column("host", String(255), nullable=False),
    Column("failures", Integer, nullable=False),
    Column("failed_at", Text, nullable=False),  # validations of the last hour, as JSON
    Column("next_at", Float, nullable=False),
    Column("error", Text, nullable=False),
    Column("hint", Text, nullable=False),
    Column(
        "retry_at", Float, nullable=False, server_default="0"
    ),  # set by the CA; 0: it set no time
    Column("source", String(16), nullable=False, server_default=""),  # as in `certificates`
    PrimaryKeyConstraint("host"),
)

#: The certificates that a CA has issued in the last week, for its limits.
certificate_issues = Table(
    "certificate_issues",
    metadata,
    Column("name", String(64), nullable=False),
    Column("at", Float, nullable=False),
    Column("hosts", Text, nullable=False),  # as JSON
    Column("renewal", Integer, nullable=False),
    Column("serial", String(64), nullable=False, server_default=""),
    Column("source", String(16), nullable=False, server_default=""),
    PrimaryKeyConstraint("name", "at"),
)

#: Domains that `homeport domain add` has attached to endpoints.
domains = Table(
    "domains",
    metadata,
    Column("domain", String(255), nullable=False),
    *_scope(),
    Column("app", String(64), nullable=False),
    Column("tag", String(255), nullable=False),
    Column("created_at", Float, nullable=False),
    PrimaryKeyConstraint("domain"),
)

#: Machines that have joined this homeport; they belong to no environment.
nodes = Table(
    "nodes",
    metadata,
    Column("name", String(64), nullable=False),
    Column("id", String(32), nullable=False),
    Column("joined_at", Float, nullable=False),
    Column("drained", Integer, nullable=False),
    # Orders of earlier generations are fenced: the node was given up, and their containers were replaced.
    Column("generation", BigInteger, nullable=False, server_default="0"),
    Column("away", Integer, nullable=False, server_default="0"),  # it was given up, and is not back
    Column("labels", Text, nullable=False, server_default="{}"),  # as JSON
    PrimaryKeyConstraint("name"),
)

#: Tokens with which a machine may join, once.
node_tokens = Table(
    "node_tokens",
    metadata,
    Column("digest", String(64), nullable=False),
    Column("expires_at", Float, nullable=False),
    PrimaryKeyConstraint("digest"),
)

cold_starts = Table(
    "cold_starts",
    metadata,
    Column("container", String(32), nullable=False),
    *_scope(),
    Column("app", String(64), nullable=False),
    Column("at", Float, nullable=False),
    Column("start", Text, nullable=False),  # a ColdStart as JSON
    PrimaryKeyConstraint("container"),
    Index("ix_cold_starts_app", "workspace", "environment", "app", "at"),
)
