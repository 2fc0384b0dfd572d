"""Workspaces and their environments: which there are, the first part of their URLs, and their keys.

The rows are in memory too, because each request of the API asks for its environment. The workspace `main` and its
environment `main` always exist, and need no row before something about them is changed. So does SYSTEM, which is in
no list: no token can be for it, and no request can name it.
"""

import contextlib
import dataclasses
import logging
import re
import secrets
import time
from collections.abc import Callable, Sequence

from sqlalchemy import Connection, delete, insert, select, update

from homeport.contract import names
from homeport.contract.errors import AlreadyExists, BadRequest, NotFound, StorageError
from homeport.contract.scope import MAIN, SYSTEM, Scope
from homeport.state import tables
from homeport.state.database import Database
from homeport.state.rows import EnvironmentRow, WorkspaceRow
from homeport.state.scope import columns
from homeport.state.tables import meant

MOST = 1500  # environments of one workspace, as in Modal
MAX_SOURCE = 40  # characters: a URL's first label has 63
#: What URLs of SYSTEM begin with: the first that no other workspace has.
SYSTEM_SOURCES = ("homeport", "homeport-system", "homeport-own-system")
_E, _W = tables.environments, tables.workspaces
_ENVIRONMENTS, _WORKSPACES = select(_E), select(_W)
_OBJECTS = select(tables.objects.c.id).where(meant(tables.objects))
#: Delete all that an environment has; its dicts' and queues' entries first, for they are found by these. The audit log
#: says who deleted the environment.
_DELETE = (
    delete(tables.dict_items).where(tables.dict_items.c.dict.in_(_OBJECTS)),
    delete(tables.queue_items).where(tables.queue_items.c.queue.in_(_OBJECTS)),
    delete(tables.queue_partitions).where(tables.queue_partitions.c.queue.in_(_OBJECTS)),
    *(
        delete(table).where(meant(table))
        for table in tables.metadata.sorted_tables
        if table is not tables.audit and "environment" in table.c and "workspace" in table.c
    ),
)

log = logging.getLogger(__name__)


class Environments:
    """All workspaces and environments.

    One class, because a workspace and its environments are created and deleted together, and no two have the same URLs.
    """

    def __init__(
        self, database: Database, digest: Callable[[str], str], *, slug: str = "main"
    ) -> None:
        """`digest` is a keyed hash (`Vault.digest`); `slug` is the setting `workspace`, for URLs of the workspace `main`."""
        self._database = database
        self._digest = digest
        self._slug = names.slug(slug)
        self._workspaces: dict[str, WorkspaceRow] = {}
        self._rows: dict[Scope, EnvironmentRow] = {}
        self._set((), ())
        self._keys: dict[str, Scope] = {}
        self._key_of: dict[Scope, str] = {}
        self._closed: set[Scope] = set()  # that are being made or deleted

    async def load(self) -> None:
        """Read the rows; `BadRequest` if the setting `workspace` became what another workspace's URLs begin with."""

        def work(connection: Connection) -> tuple[list[WorkspaceRow], list[EnvironmentRow]]:
            return (
                [WorkspaceRow(**row) for row in connection.execute(_WORKSPACES).mappings()],
                [EnvironmentRow(**row) for row in connection.execute(_ENVIRONMENTS).mappings()],
            )

        self._set(*await self._database.read(work))
        for scope in self._rows:
            self._remember(scope)
        for row in self.of(MAIN.workspace):
            try:
                self._check_source(row.scope, self.source(row.scope))
            except AlreadyExists as error:
                raise BadRequest(
                    f"the setting `workspace` is `{self._slug}`: {error.message}",
                    hint="`homeport up --workspace NAME` or HOMEPORT_WORKSPACE chooses another one",
                ) from None

    def _set(
        self, workspaces: Sequence[WorkspaceRow], environments: Sequence[EnvironmentRow]
    ) -> None:
        """Hold these rows, and those that need none."""
        self._workspaces = {row.name: row for row in workspaces}
        self._workspaces.setdefault(
            MAIN.workspace, WorkspaceRow(name=MAIN.workspace, slug="", created_at=0.0)
        )
        self._rows = {row.scope: row for row in environments}
        for workspace in self._workspaces:
            scope = Scope(workspace, MAIN.environment)
            self._rows.setdefault(
                scope,
                EnvironmentRow(
                    workspace=scope.workspace,
                    environment=scope.environment,
                    suffix="",
                    created_at=self._workspaces[workspace].created_at,
                ),
            )
        self._rows.pop(SYSTEM, None)
        for source in SYSTEM_SOURCES:
            self._system_source = source
            with contextlib.suppress(AlreadyExists):
                self._check_source(SYSTEM, source)
                break
        self._rows[SYSTEM] = EnvironmentRow(
            workspace=SYSTEM.workspace, environment=SYSTEM.environment, suffix="", created_at=0.0
        )

    def all(self) -> list[Scope]:
        """Return every environment of every workspace."""
        return list(self._rows)

    @property
    def is_alone(self) -> bool:
        """Whether the server has one workspace, so that nothing has to be shared."""
        return len(self._workspaces) == 1

    def of(self, workspace: str) -> list[EnvironmentRow]:
        """Return a workspace's environments, in the order of their names."""
        rows = (row for row in self._rows.values() if row.workspace == workspace)
        return sorted(rows, key=lambda row: row.environment)

    def find(
        self, scope: Scope, *, sees: Callable[[Scope], bool] = lambda _scope: True
    ) -> EnvironmentRow:
        """Return an environment; `NotFound` for an unknown one, and for one that is being made or deleted.

        The error names those that the caller `sees`.
        """
        row = self._rows.get(scope)
        if row is None or scope in self._closed:
            seen = [row_.environment for row_ in self.of(scope.workspace) if sees(row_.scope)]
            there = ", ".join(f"`{name}`" for name in seen) or "none for this token"
            raise NotFound(
                f"there is no environment `{scope.environment[:80]}`",
                hint=f"there is {there}; `homeport environment create NAME` makes another one",
            )
        return row

    def key(self, scope: Scope) -> str:
        """Return the key of an environment, which its containers have: it shows the server which one a request is from.

        One that was deleted has no key any more: a random one, which opens nothing, is returned for it.
        """
        if scope not in self._key_of:
            if scope not in self._rows:
                return secrets.token_hex(20)
            self._remember(scope)
        return self._key_of[scope]

    def seal(self, scope: Scope) -> str:
        """Return the key of an environment for `SecretBox`; empty for MAIN, whose secrets may be older than environments."""
        return "" if scope == MAIN else self.key(scope)

    def by_key(self, key: str) -> Scope | None:
        """Return the environment with a key."""
        scope = self._keys.get(key)
        return None if scope in self._closed else scope

    def source(self, scope: Scope) -> str:
        """Return the first part of an environment's URLs, up to the `--`."""
        row = self._rows.get(scope)
        suffix = row.suffix if row is not None else names.slug(scope.environment)
        return self._source(scope.workspace, suffix)

    async def create(self, scope: Scope, suffix: str | None = None) -> EnvironmentRow:
        """Create an environment, which no request finds before `reopen`; its web suffix is its name by default."""
        if not names.is_environment_name(scope.environment):
            raise BadRequest(
                f"Invalid environment name: '{scope.environment[:80]}'.",
                hint="letters, digits, `-` and `_`, at most 64 of them; a letter or a digit first, and not `en-`",
            )
        if scope.workspace not in self._workspaces:
            raise NotFound(f"there is no workspace `{scope.workspace[:80]}`")
        if scope in self._rows:
            raise AlreadyExists(f"the environment `{scope.environment}` exists")
        if len(self.of(scope.workspace)) >= MOST:
            raise BadRequest(f"a workspace has at most {MOST} environments")
        if suffix is None:
            suffix = re.sub(r"-+", "-", names.slug(scope.environment)).strip("-")
        self._check_suffix(scope, suffix)
        row = EnvironmentRow(**columns(scope), suffix=suffix, created_at=time.time())

        def work(connection: Connection) -> None:
            _delete_rows(
                connection, scope
            )  # that a request has written while a former one was deleted
            connection.execute(insert(_E).values(**dataclasses.asdict(row)))

        self._rows[scope] = row  # before another one takes the suffix
        self._closed.add(scope)
        try:
            await self._database.write(work)
        except BaseException:
            del self._rows[scope]
            self._closed.discard(scope)
            raise
        self._remember(scope)
        return row

    async def set_suffix(self, scope: Scope, suffix: str) -> EnvironmentRow:
        """Change the web suffix, and so all URLs of the environment."""
        before = self.find(scope)
        self._check_suffix(scope, suffix)
        row = dataclasses.replace(before, suffix=suffix)

        def work(connection: Connection) -> None:
            query = update(_E).where(tables.here(_E, scope)).values(suffix=suffix)
            if not connection.execute(query).rowcount:
                connection.execute(insert(_E).values(**dataclasses.asdict(row)))

        self._rows[scope] = row
        try:
            await self._database.write(work)
        except BaseException:
            self._rows[scope] = before
            raise
        return row

    def close(self, scope: Scope) -> None:
        """Let no request find an environment any more: it is being deleted. `BadRequest` for a workspace's `main`."""
        self.find(scope)
        if scope.environment == MAIN.environment:
            raise BadRequest(
                f"`{MAIN.environment}` is the environment of commands that name none: it cannot be deleted"
            )
        self._closed.add(scope)

    def reopen(self, scope: Scope) -> None:
        """Let requests find an environment that was made, or undo `close`."""
        self._closed.discard(scope)

    async def delete(self, scope: Scope) -> None:
        """Delete an environment and every row in it."""
        await self._database.write(lambda c: _delete_rows(c, scope))
        self._forget(scope)

    # workspaces

    def workspaces(self) -> list[WorkspaceRow]:
        """Return the workspaces, in the order of their names."""
        return [
            dataclasses.replace(row, slug=self._slug_of(name))
            for name, row in sorted(self._workspaces.items())
        ]

    def find_workspace(self, name: str) -> WorkspaceRow:
        """Return a workspace; `NotFound` for an unknown one, and for one that is being made or deleted."""
        row = self._workspaces.get(name)
        if row is None or Scope(name) in self._closed:
            raise NotFound(
                f"there is no workspace `{name[:80]}`",
                hint="`homeport workspace list` shows those there are",
            )
        return row

    async def create_workspace(self, name: str) -> WorkspaceRow:
        """Create a workspace with an environment `main`, which no request finds before `reopen`.

        Its URLs begin with its name.
        """
        if not names.is_slug(name) or len(name) > MAX_SOURCE:
            raise BadRequest(
                f"Invalid workspace name: '{name[:80]}'.",
                hint=f"small letters, digits and single dashes, at most {MAX_SOURCE} of them",
            )
        if name in self._workspaces:
            raise AlreadyExists(f"the workspace `{name}` exists")
        self._check_source(Scope(name), name)
        row = WorkspaceRow(name=name, slug=name, created_at=time.time())
        main = EnvironmentRow(workspace=name, environment="main", suffix="", created_at=row.created_at)  # fmt: skip

        def work(connection: Connection) -> None:
            _delete_rows(connection, main.scope)
            connection.execute(delete(_W).where(_W.c.name == name))
            connection.execute(insert(_W).values(**dataclasses.asdict(row)))
            connection.execute(insert(_E).values(**dataclasses.asdict(main)))

        self._workspaces[name], self._rows[main.scope] = row, main
        self._closed.add(main.scope)
        try:
            await self._database.write(work)
        except BaseException:
            del self._workspaces[name], self._rows[main.scope]
            self._closed.discard(main.scope)
            raise
        self._remember(main.scope)
        return row

    def close_workspace(self, name: str) -> list[Scope]:
        """Let no request find the environments of a workspace any more; return them."""
        self.find_workspace(name)
        if name == MAIN.workspace:
            raise BadRequest(f"the workspace `{name}` is the server's own: it cannot be deleted")
        scopes = [row.scope for row in self.of(name)]
        self._closed.update(scopes)
        return scopes

    async def delete_workspace(self, name: str) -> None:
        """Delete a workspace and every row in it."""
        scopes = [row.scope for row in self.of(name)]

        def work(connection: Connection) -> None:
            for scope in scopes:
                _delete_rows(connection, scope)
            connection.execute(delete(_W).where(_W.c.name == name))

        await self._database.write(work)
        del self._workspaces[name]
        for scope in scopes:
            self._forget(scope)

    def _remember(self, scope: Scope) -> None:
        # With the time, so that the key of a deleted environment does not open a later one of the same name.
        at = self._rows[scope].created_at
        created = f"\0{at!r}" if at else ""
        try:
            key = self._digest(f"environment\0{scope.workspace}\0{scope.environment}{created}")[:40]
        except StorageError:  # the key of the vault is damaged: until the next start, another one
            key = secrets.token_hex(20)
        self._keys[key] = scope
        self._key_of[scope] = key

    def _forget(self, scope: Scope) -> None:
        self._rows.pop(scope, None)
        self._keys.pop(self._key_of.pop(scope, ""), None)
        self._closed.discard(scope)

    def _check_suffix(self, scope: Scope, suffix: str) -> None:
        if suffix and not names.is_slug(suffix):
            raise BadRequest(
                f"Invalid web suffix: '{suffix[:80]}'.",
                hint="small letters, digits and single dashes; it can be empty for one environment",
            )
        if len(self._source(scope.workspace, suffix)) > MAX_SOURCE:
            raise BadRequest(
                f"the web suffix `{suffix[:80]}` is too long",
                hint="`--web-suffix` names a shorter one",
            )
        for row in self.of(scope.workspace):
            if row.scope != scope and row.suffix == suffix:
                description = f"the web suffix `{suffix}`" if suffix else "no web suffix"
                raise AlreadyExists(f"the environment `{row.environment}` has {description}")
        self._check_source(scope, self._source(scope.workspace, suffix))

    def _check_source(self, scope: Scope, source: str) -> None:
        """Raise if the URLs of another environment begin in the same way."""
        for row in self._rows:
            theirs = self.source(row)
            # The setting `workspace` may have a `--`, and so may the rest of a URL.
            alike = f"{source}--".startswith(f"{theirs}--") or f"{theirs}--".startswith(
                f"{source}--"
            )
            if row != scope and alike:
                raise AlreadyExists(
                    f"URLs that begin with `{source}--` belong to another workspace"
                )

    def _source(self, workspace: str, suffix: str) -> str:
        slug = self._slug_of(workspace)
        return f"{slug}-{suffix}" if suffix else slug

    def _slug_of(self, workspace: str) -> str:
        if workspace == SYSTEM.workspace:
            return self._system_source
        return self._slug if workspace == MAIN.workspace else workspace


def _delete_rows(connection: Connection, scope: Scope) -> None:
    for statement in _DELETE:
        connection.execute(statement, tables.parameters(scope))
