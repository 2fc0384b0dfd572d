"""Which deployed apps stop by themselves, and when: `homeport deploy --expires 7d`.

The rows are in memory too, because every list of apps shows them.
"""

from sqlalchemy import ColumnElement, Connection, and_, delete, insert, select

from homeport.contract.dataclass import dataclass
from homeport.state import tables
from homeport.state.database import Database
from homeport.state.scope import Scope, columns

_T = tables.expiries
AppKey = tuple[Scope, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiry:
    """When an app stops; each deploy lets it live for `seconds` again."""

    seconds: float
    expires_at: float  # seconds since the epoch


class Expiries:
    """The expiries of all apps."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._all: dict[AppKey, Expiry] = {}

    async def load(self) -> None:
        """Read the rows."""
        rows = await self._database.read(lambda c: list(c.execute(select(_T)).mappings()))
        self._all = {
            (Scope(row["workspace"], row["environment"]), row["app"]): Expiry(
                seconds=row["seconds"], expires_at=row["expires_at"]
            )
            for row in rows
        }

    def of(self, app: AppKey) -> Expiry | None:
        """Return an app's expiry; None if it lives until it is stopped."""
        return self._all.get(app)

    def due(self, now: float) -> list[AppKey]:
        """Return the apps whose time has come, in its order."""
        due = [
            (expiry.expires_at, app)
            for app, expiry in self._all.items()
            if expiry.expires_at <= now
        ]
        return [app for _, app in sorted(due)]

    def next_at(self) -> float | None:
        """Return when the next app stops; None if none does."""
        return min((expiry.expires_at for expiry in self._all.values()), default=None)

    async def deployed(self, app: AppKey, seconds: float | None, now: float) -> None:
        """Record a deploy: the app runs for `seconds`; None: for as long as an earlier deploy set; 0: for ever."""
        earlier = self._all.get(app)
        if seconds is None:
            if earlier is None:
                return
            seconds = earlier.seconds
        if seconds == 0:
            await self.forget(app)
            return
        expiry = Expiry(seconds=seconds, expires_at=now + seconds)
        values = {
            **columns(app[0]),
            "app": app[1],
            "seconds": seconds,
            "expires_at": expiry.expires_at,
        }

        def work(connection: Connection) -> None:
            connection.execute(delete(_T).where(_this(app)))
            connection.execute(insert(_T), [values])

        await self._database.write(work)
        self._all[app] = expiry

    async def forget(self, app: AppKey) -> None:
        """Let an app live until it is stopped, or forget one that was."""
        if app in self._all:
            query = delete(_T).where(_this(app))
            await self._database.write(lambda c: c.execute(query))
            self._all.pop(app, None)

    def drop(self, scope: Scope) -> None:
        """Drop the apps of an environment whose rows were deleted."""
        self._all = {app: expiry for app, expiry in self._all.items() if app[0] != scope}


def _this(app: AppKey) -> ColumnElement[bool]:
    return and_(_T.c.app == app[1], tables.here(_T, app[0]))
