"""What `update_autoscaler` has set for deployed functions: it holds until the next deploy, also after a restart."""

import hashlib

from sqlalchemy import Connection, and_, delete, func, insert, select

from homeport.contract import codec
from homeport.contract.api.functions import Scaling
from homeport.contract.dataclass import dataclass
from homeport.contract.errors import TooMany
from homeport.contract.traffic import PoolKey
from homeport.state import tables
from homeport.state.database import Database
from homeport.state.scope import Scope, columns

MOST = 1000  # of an app: each set of class parameters may have one
_T = tables.scaling


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingRow:
    """The settings of one function, or of one class with its parameters."""

    pool: PoolKey
    scaling: Scaling


class Scalings:
    """The settings of all environments."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, scope: Scope, app: str, revision: str) -> list[ScalingRow]:
        """Return the settings that were set since that revision was deployed."""
        columns = (_T.c.function, _T.c.parameters, _T.c.scaling)
        query = select(*columns).where(
            tables.here(_T, scope), _T.c.app == app, _T.c.revision == revision
        )
        rows = await self._database.read(lambda c: list(c.execute(query)))
        return [
            ScalingRow(
                pool=PoolKey(app, function, revision, parameters),
                scaling=codec.loads(Scaling, text),
            )
            for function, parameters, text in rows
        ]

    async def save(self, scope: Scope, row: ScalingRow) -> None:
        """Save settings; those of earlier revisions of the app are removed."""
        pool = row.pool
        digest = hashlib.sha256(pool.parameters.encode()).hexdigest()
        of_app = and_(tables.here(_T, scope), _T.c.app == pool.app)
        same = and_(_T.c.function == pool.function, _T.c.digest == digest)
        values = {
            **columns(scope),
            "app": pool.app,
            "function": pool.function,
            "digest": digest,
            "parameters": pool.parameters,
            "revision": pool.revision,
            "scaling": codec.dumps(row.scaling),
        }

        def work(connection: Connection) -> None:
            connection.execute(delete(_T).where(of_app, _T.c.revision != pool.revision))
            connection.execute(delete(_T).where(of_app, same))
            count = select(func.count()).select_from(_T).where(of_app)
            if (connection.scalar(count) or 0) >= MOST:
                raise TooMany(f"{MOST} functions and class parameters of the app have settings")
            connection.execute(insert(_T), [values])

        await self._database.write(work)
