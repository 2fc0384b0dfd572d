"""Which deployed apps stop by themselves, and when: `homeport deploy --expires 7d`.

The rows are in memory too, because every list of apps shows them.
"""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, delete, insert, select

from homeport.state import tables
from homeport.state.database import Database
from homeport.state.scope import MAIN, Scope

_T = tables.expiries


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiry:
    """When an app stops; each deploy lets it live for `seconds` again."""

    seconds: float
    expires_at: float  # seconds since the epoch


class Expiries:
    """The expiries of one environment's apps."""

    def __init__(self, database: Database, *, scope: Scope = MAIN) -> None:
        self._database = database
        self._scope = {"workspace": scope.workspace, "environment": scope.environment}
        self._all: dict[str, Expiry] = {}

    async def load(self) -> None:
        """Read the rows."""
        query = select(_T.c.app, _T.c.seconds, _T.c.expires_at).where(self._here())
        rows = await self._database.read(lambda c: list(c.execute(query)))
        self._all = {app: Expiry(seconds=s, expires_at=at) for app, s, at in rows}

    def of(self, app: str) -> Expiry | None:
        """Return an app's expiry; None if it lives until it is stopped."""
        return self._all.get(app)

    def due(self, now: float) -> list[str]:
        """Return the apps whose time has come, in its order."""
        found = [
            (each.expires_at, app) for app, each in self._all.items() if each.expires_at <= now
        ]
        return [app for _, app in sorted(found)]

    def next_at(self) -> float | None:
        """Return when the next app stops; None if none does."""
        return min((each.expires_at for each in self._all.values()), default=None)

    async def deployed(self, app: str, seconds: float | None, now: float) -> None:
        """Note a deploy: the app lives for `seconds`; None: for as long as was said before; 0: for ever."""
        known = self._all.get(app)
        if seconds is None:
            if known is None:
                return
            seconds = known.seconds
        if seconds == 0:
            await self.forget(app)
            return
        expiry = Expiry(seconds=seconds, expires_at=now + seconds)
        values = {**self._scope, "app": app, "seconds": seconds, "expires_at": expiry.expires_at}

        def work(connection: Connection) -> None:
            connection.execute(delete(_T).where(self._here(), _T.c.app == app))
            connection.execute(insert(_T), [values])

        await self._database.write(work)
        self._all[app] = expiry

    async def forget(self, app: str) -> None:
        """Let an app live until it is stopped, or forget one that was."""
        if app in self._all:
            query = delete(_T).where(self._here(), _T.c.app == app)
            await self._database.write(lambda c: c.execute(query))
            self._all.pop(app, None)

    def _here(self) -> ColumnElement[bool]:
        return and_(*(_T.c[key] == value for key, value in self._scope.items()))
