"""Tokens of the API: `ak-…` with a secret `as-…`, which is shown once and kept as a hash.

All rows are in memory too, because each request asks for one. One server writes them (`Database.claim`), so memory
and table agree. When a token was used is written later, at most once a minute, so that no request waits for it.
"""

import asyncio
import dataclasses
import hashlib
import hmac
import logging
import re
import time
from collections import Counter
from collections.abc import Callable, Collection

from sqlalchemy import Connection, delete, insert, select, update

from homeport.contract.errors import BadRequest, NotFound, StorageError, Unauthorized
from homeport.contract.permissions import Permission
from homeport.state import tables, tokens
from homeport.state.database import Database
from homeport.state.rows import ApiTokenRow
from homeport.supervised import supervised

USED_S = 60.0  # how often the time of the last use is written
MAX_NAME = 64  # characters, of a name and of a user
MAX_ENVIRONMENTS = 100
LONGEST_S = 100 * 365 * 86400.0
MAX_TOKENS = 10_000
MAX_SESSIONS = 20  # of the dashboard, made with one token; the oldest ends
SESSION = "dashboard session"  # the name of a token that was made for a session of the dashboard
_T = tables.api_tokens
_USER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}\Z")
_ENVIRONMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")
_NOBODY = "0" * 64  # no secret has this hash

log = logging.getLogger(__name__)


class ApiTokens:
    """The tokens of this server's API."""

    def __init__(self, database: Database, now: Callable[[], float] = time.time) -> None:
        self._database = database
        self._now = now
        self._rows: dict[str, ApiTokenRow] = {}  # by id
        self._unwritten: dict[str, float] = {}  # id -> when it was used
        self._writing: asyncio.Task[None] | None = None
        self._watchers: list[Callable[[str], None]] = []
        self._deleted: Counter[str] = Counter()  # how often the tokens of a workspace were deleted

    async def load(self) -> None:
        """Read the tokens. A damaged row is left out: that token opens nothing."""
        names = [field.name for field in dataclasses.fields(ApiTokenRow)]
        query = select(*(_T.c[name] for name in names)).order_by(_T.c.created_at)
        rows = await self._database.read(lambda c: list(c.execute(query).mappings()))
        self._rows = {}
        for row in rows:
            try:
                self._rows[row["id"]] = _read(dict(row))
            except ValueError:
                log.warning("the API's token %s is damaged in the store", ascii(row["id"]))

    def watch(self, deleted: Callable[[str], None]) -> None:
        """Call `deleted` with the id of each token that is deleted."""
        self._watchers.append(deleted)

    def open(self) -> None:
        """Begin to write when tokens are used."""
        self._writing = asyncio.create_task(supervised("the tokens' last use", self._write_used))

    async def close(self) -> None:
        """Write when the tokens were used, for the last time."""
        if self._writing is not None:
            self._writing.cancel()
            await asyncio.wait({self._writing})
        try:
            await self._flush()
        except StorageError as error:
            log.warning("when tokens were used is not written: %s", error.message)

    def verified(self, bearer: str) -> ApiTokenRow | None:
        """Return the token that `ak-….as-…` opens; None for a wrong or an expired one. It counts as used."""
        token_id, _, secret = bearer.partition(".")
        row = self._rows.get(token_id)
        digest = hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
        # The same work for an unknown id, so that the time of an answer tells nothing.
        is_right = hmac.compare_digest(digest, _NOBODY if row is None else row.secret_sha256)
        now = self._now()
        if row is None or not is_right or (row.expires_at is not None and now >= row.expires_at):
            return None
        self._unwritten[row.id] = now
        return row

    def every(self, workspace: str | None) -> list[ApiTokenRow]:
        """Return a workspace's tokens, the oldest first; None: those of all."""
        rows = [row for row in self._rows.values() if workspace in (None, row.workspace)]
        return [self._with_use(row) for row in rows]

    def find(self, workspace: str | None, token_id: str) -> ApiTokenRow:
        """Return the token with an id; `NotFound` for an unknown one, and for one of another workspace."""
        row = self._rows.get(token_id)
        if row is None or workspace not in (None, row.workspace):
            raise NotFound(
                f"there is no token `{token_id[:80]}`", hint="`homeport token list` has them"
            )
        return self._with_use(row)

    async def create(
        self,
        *,
        workspace: str,
        name: str,
        user: str,
        scopes: Collection[Permission],
        environments: Collection[str],
        expires_s: float | None,
        never_after: float | None = None,
    ) -> tuple[ApiTokenRow, str]:
        """Create a token; return it with `ak-….as-…`, which is not stored and cannot be shown again.

        It expires after `expires_s`, and at the moment `never_after` at the latest. `NotFound` if the workspace is deleted
        meanwhile.
        """
        _check(name, user, scopes, environments, expires_s)
        if Permission.ADMIN in scopes and workspace != "main":
            raise BadRequest("only the server's own workspace, `main`, has admins")
        if len(self._rows) >= MAX_TOKENS:
            raise BadRequest(
                f"there are {MAX_TOKENS} tokens", hint="delete those that nobody needs"
            )
        deletions = self._deleted[workspace]
        now, secret = self._now(), f"as-{tokens.random()}"
        ends = [
            limit
            for limit in (None if expires_s is None else now + expires_s, never_after)
            if limit is not None
        ]
        row = ApiTokenRow(
            id=f"ak-{tokens.random()}",
            workspace=workspace,
            name=name,
            user=user,
            scopes=",".join(scope.value for scope in Permission if scope in scopes),
            environments=",".join(sorted(set(environments))),
            # A random secret of 128 bits needs no slow hash: there is nothing to guess.
            secret_sha256=hashlib.sha256(secret.encode()).hexdigest(),
            created_at=now,
            expires_at=min(ends, default=None),
            used_at=None,
        )
        query = insert(_T).values(**dataclasses.asdict(row))
        await self._database.write(lambda c: c.execute(query))
        self._rows[row.id] = row
        if self._deleted[workspace] != deletions:  # while this was written
            await self._delete([row.id])
            raise NotFound(f"the workspace `{workspace}` was deleted")
        return row, f"{row.id}.{secret}"

    async def create_session(
        self,
        *,
        parent: str,
        workspace: str,
        user: str,
        scopes: Collection[Permission],
        environments: Collection[str],
        lasts_s: float,
    ) -> tuple[ApiTokenRow, str]:
        """Create a token for a session of the dashboard, as `create` does; it never outlives its `parent`, a token's id.

        `parent` is empty for the server's own user, and for the token of the settings; `Unauthorized` for one that was
        deleted.
        """
        name = _session_of(parent)
        now = self._now()
        row = self._rows.get(parent)
        sessions = [row_ for row_ in self._rows.values() if self.is_session(row_)]
        expired = [
            session.id
            for session in sessions
            if session.expires_at is not None and session.expires_at <= now
        ]
        own_sessions = [
            session.id for session in sessions if session.name == name and session.id not in expired
        ]
        if expired := [*expired, *own_sessions[: max(0, len(own_sessions) + 1 - MAX_SESSIONS)]]:
            await self._delete(expired)
        admin = Permission.ADMIN in scopes
        session, bearer = await self.create(
            workspace=workspace,
            name=name,
            user=user,
            scopes=(Permission.ADMIN,) if admin else scopes,
            environments=environments,
            expires_s=lasts_s,
            never_after=None if row is None else row.expires_at,
        )
        if parent and parent not in self._rows:  # it was deleted while this was written
            await self._delete([session.id])
            raise Unauthorized("the token of this session was deleted")
        return session, bearer

    @staticmethod
    def is_session(row: ApiTokenRow) -> bool:
        """Return whether a token was made for a session of the dashboard."""
        return is_session_name(row.name)

    def is_valid(self, token_id: str) -> bool:
        """Return whether there is a token with this id that has not expired."""
        row = self._rows.get(token_id)
        return row is not None and (row.expires_at is None or self._now() < row.expires_at)

    async def delete(self, workspace: str | None, token_id: str) -> None:
        """Delete a token: it opens nothing from now on."""
        await self._delete([self.find(workspace, token_id).id])

    async def delete_user(self, workspace: str | None, user: str) -> list[str]:
        """Delete every token of a user; return their ids."""
        ids = [row.id for row in self.every(workspace) if row.user == user and user]
        if not ids:
            raise NotFound(f"no token belongs to `{user[:80]}`", hint="`homeport user list`")
        await self._delete(ids)
        return ids

    async def delete_workspace(self, workspace: str) -> None:
        """Delete every token of a workspace, and those that are being created."""
        self._deleted[workspace] += 1
        if ids := [row.id for row in self.every(workspace)]:
            await self._delete(ids)

    async def _delete(self, ids: Collection[str]) -> None:
        """Delete tokens, and the sessions of the dashboard that were made with them, also meanwhile."""
        every = self._with_sessions(ids)
        while left := [token_id for token_id in every if token_id in self._rows]:
            await self._delete_rows(left)
            every = self._with_sessions(every)

    async def _delete_rows(self, ids: Collection[str]) -> None:
        query = delete(_T).where(_T.c.id.in_(ids))
        await self._database.write(lambda c: c.execute(query))
        for token_id in ids:
            self._rows.pop(token_id, None)
            self._unwritten.pop(token_id, None)
            for deleted in self._watchers:
                deleted(token_id)

    def _with_sessions(self, ids: Collection[str]) -> list[str]:
        all_ids = list(ids)
        for token_id in all_ids:  # grows: a session can make a session
            name = _session_of(token_id)
            all_ids += [
                row.id for row in self._rows.values() if row.name == name and row.id not in all_ids
            ]
        return all_ids

    async def _write_used(self) -> None:
        while True:
            await asyncio.sleep(USED_S)
            await self._flush()

    async def _flush(self) -> None:
        used, self._unwritten = self._unwritten, {}
        if not used:
            return

        def work(connection: Connection) -> None:
            for token_id, at in used.items():
                connection.execute(update(_T).where(_T.c.id == token_id).values(used_at=at))

        try:
            await self._database.write(work)
        except BaseException:
            self._unwritten = {**used, **self._unwritten}
            raise
        for token_id, at in used.items():
            if token_id in self._rows:
                self._rows[token_id] = dataclasses.replace(self._rows[token_id], used_at=at)

    def _with_use(self, row: ApiTokenRow) -> ApiTokenRow:
        return dataclasses.replace(row, used_at=self._unwritten.get(row.id, row.used_at))


def scopes_of(row: ApiTokenRow) -> tuple[Permission, ...]:
    """Return a token's scopes."""
    return tuple(map(Permission, row.scopes.split(",")))


def environments_of(row: ApiTokenRow) -> tuple[str, ...]:
    """Return the environments that a token is for; none means all."""
    return tuple(filter(None, row.environments.split(",")))


def is_session_name(name: str) -> bool:
    """Return whether a name is that of a session's token; no other token gets such a name."""
    return name == SESSION or name.startswith(_session_of("ak-"))


def _session_of(parent: str) -> str:
    """Return the name of the tokens of sessions that were made with a token; without one, `SESSION`."""
    return f"{SESSION} of {parent}" if parent else SESSION


def _read(values: dict[str, object]) -> ApiTokenRow:
    """Return a row; `ValueError` if it is damaged."""
    row = ApiTokenRow(**values)  # type: ignore[arg-type]
    scopes_of(row)
    if not re.fullmatch(r"[0-9a-f]{64}", str(row.secret_sha256)):
        raise ValueError(row.id)
    return row


def _check(
    name: str,
    user: str,
    scopes: Collection[Permission],
    environments: Collection[str],
    expires_s: float | None,
) -> None:
    if len(name) > MAX_NAME or not name.isprintable():
        raise BadRequest(f"a token's name has at most {MAX_NAME} printable characters")
    if user and not _USER.match(user):
        raise BadRequest(
            "a user's name has letters, digits and `.`, `_`, `@`, `+`, `-`, at most 64 of them"
        )
    if not scopes:
        raise BadRequest(
            "a token needs a scope",
            hint="there are " + ", ".join(permission.value for permission in Permission),
        )
    if len(environments) > MAX_ENVIRONMENTS or not all(map(_ENVIRONMENT.match, environments)):
        raise BadRequest("an environment's name has letters, digits and `.`, `_`, `-`")
    if Permission.ADMIN in scopes and environments:
        raise BadRequest(
            "an admin's token is for all environments, because it can make other tokens",
            hint="leave `--env` out, or give it another scope",
        )
    if expires_s is not None and not 0 < expires_s <= LONGEST_S:
        raise BadRequest("a token expires after more than 0 seconds and less than 100 years")
