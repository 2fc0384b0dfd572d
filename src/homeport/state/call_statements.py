"""The statements of spawned calls, made once: to make a statement takes six times as long as to run it.

Names of parameters differ from those of columns, because an UPDATE takes a parameter with a column's name for a new value.
"""

from collections import Counter
from collections.abc import Callable

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    bindparam,
    func,
    insert,
    or_,
    select,
    true,
    update,
)

from homeport.contract.errors import TooMany
from homeport.state import shares, tables
from homeport.state.call_rows import COLUMNS, NAMES, RUNNING, WAITING
from homeport.state.ready import Ready

MAX_WAITING = 1_000_000  # one of several workspaces has half of them at most (shares)
_T = tables.calls


class Statements:
    """The statements of each call's life, made once: to make one takes six times as long as to run it."""

    def __init__(self, here: ColumnElement[bool]) -> None:
        this = and_(here, _T.c.id == bindparam("call"), _T.c.place == bindparam("at"))
        attempt = and_(this, _T.c.attempt == bindparam("this_attempt"))
        waits = and_(attempt, _T.c.state == WAITING)
        is_open = and_(attempt, or_(_T.c.state == WAITING, _T.c.state == RUNNING))
        outcome = (_T.c.state, _T.c.attempt, _T.c.kind, _T.c.outcome_python, _T.c.outcome)
        self.row = Ready(select(*COLUMNS).where(this))
        self.outcome = Ready(select(*outcome).where(this))
        # Its container may ask again, because it may not have got the answer.
        is_mine = and_(attempt, _T.c.state == RUNNING, _T.c.container == bindparam("by"))
        self.claim = Ready(
            update(_T)
            .where(or_(waits, is_mine))
            .values(
                state=RUNNING,
                container=bindparam("by"),
                started_at=bindparam("now"),
                note="",
            )
        )
        self.finish = Ready(
            update(_T)
            .where(is_open)
            .values(
                state=bindparam("then"),
                kind=bindparam("how"),
                outcome_python=bindparam("by"),
                outcome=bindparam("body"),
                ended_at=bindparam("now"),
            )
        )
        self.again = Ready(
            update(_T)
            .where(is_open)
            .values(
                state=WAITING,
                attempt=_T.c.attempt + 1,
                container="",
                due_at=bindparam("due"),
                note=bindparam("why"),
            )
        )
        self.postpone = Ready(
            update(_T).where(waits).values(due_at=bindparam("due"), note=bindparam("why"))
        )


_WITHIN = and_(_T.c.workspace == bindparam("within"), _T.c.environment == bindparam("inside"))
OF_ALL, OF_SCOPE = Statements(true()), Statements(_WITHIN)
KNOWN = Ready(select(_T.c.place).where(_T.c.id == bindparam("call")).limit(1))  # in any environment
_COUNT = select(_T.c.workspace, func.count()).where(_T.c.state == WAITING).group_by(_T.c.workspace)
DUE = (
    select(*COLUMNS, _T.c.input)
    .where(_T.c.state == WAITING)
    .where(_T.c.endpoint == bindparam("of"), _T.c.due_at <= bindparam("now"))
    .order_by(_T.c.due_at, _T.c.id, _T.c.place)
    .limit(bindparam("most"))
)
NEXT_DUE = select(func.min(_T.c.due_at)).where(
    _T.c.state == WAITING, _T.c.endpoint == bindparam("of"), _T.c.due_at > bindparam("now")
)
ADD = Ready(insert(_T), *NAMES, "input")


class Room:
    """How many calls may wait, of one workspace and of all.

    The numbers that it remembers are never too small, because between two counts only `add` makes calls wait, but for
    attempts that wait again. So it counts again only where they say that there is no room: to count 10,000 takes a millisecond.
    """

    def __init__(self, alone: Callable[[], bool] = lambda: True) -> None:
        """`alone` returns whether the server has one workspace."""
        self._alone = alone
        self._waiting: Counter[str] | None = None  # by workspace; None: not counted yet

    def take(self, connection: Connection, workspace: str, count: int) -> None:
        """Take room for new calls, in the transaction that adds them; `TooMany` if there is none."""
        if not self._may_take(workspace, count):
            self._waiting = Counter({row[0]: row[1] for row in connection.execute(_COUNT)})
        if not self._may_take(workspace, count):
            assert self._waiting is not None
            limit = MAX_WAITING if self._alone() else self._waiting[workspace]
            suffix = "" if self._alone() else " of this workspace"
            raise TooMany(f"{limit} calls{suffix} are waiting already", hint="try again later")
        assert self._waiting is not None
        self._waiting[workspace] += count

    def _may_take(self, workspace: str, count: int) -> bool:
        return self._waiting is not None and shares.may_take(
            count,
            own=self._waiting[workspace],
            of_all=self._waiting.total(),
            most=MAX_WAITING,
            alone=self._alone(),
        )
