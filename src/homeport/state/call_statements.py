"""The statements of spawned calls, made once: to make a statement takes six times as long as to run it.

Names of parameters differ from those of columns, because an UPDATE takes a parameter with a column's name for a new value.
"""

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    bindparam,
    func,
    insert,
    select,
    true,
    update,
)

from homeport.contract.errors import TooMany
from homeport.state import tables
from homeport.state.call_rows import COLUMNS, RUNNING, WAITING

MAX_WAITING = 1_000_000
_T = tables.calls


class Statements:
    """The statements of each call's life, made once: to make one takes six times as long as to run it."""

    def __init__(self, here: ColumnElement[bool]) -> None:
        this = and_(here, _T.c.id == bindparam("call"), _T.c.place == bindparam("at"))
        attempt = and_(this, _T.c.attempt == bindparam("this_attempt"))
        waits = and_(attempt, _T.c.state == WAITING)
        is_open = and_(attempt, _T.c.state.in_((WAITING, RUNNING)))
        self.one = select(*COLUMNS).where(this)
        self.outcome = select(_T.c.state, _T.c.kind, _T.c.outcome_python, _T.c.outcome).where(this)
        self.claim = (
            update(_T)
            .where(waits)
            .values(
                state=RUNNING,
                container=bindparam("by"),
                started_at=bindparam("now"),
                note="",
            )
        )
        self.finish = (
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
        self.again = (
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
        self.postpone = (
            update(_T).where(waits).values(due_at=bindparam("due"), note=bindparam("why"))
        )


_WITHIN = and_(_T.c.workspace == bindparam("within"), _T.c.environment == bindparam("inside"))
OF_ALL, OF_SCOPE = Statements(true()), Statements(_WITHIN)
KNOWN = select(_T.c.id).where(_T.c.id == bindparam("call")).limit(1)  # in any environment
_COUNT = select(func.count()).select_from(_T).where(_T.c.state == WAITING)
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
ADD = insert(_T)


class Room:
    """How many calls may be added before those that wait are counted again, because to count 10,000 takes a millisecond.

    Between two counts only `add` makes calls wait, but for attempts that wait again.
    """

    def __init__(self) -> None:
        self.left = 0

    def take(self, connection: Connection, count: int) -> None:
        """Take room for new calls, in the transaction that adds them; `TooMany` if there is none."""
        if self.left < count:
            self.left = MAX_WAITING - (connection.scalar(_COUNT) or 0)
        if self.left < count:
            raise TooMany(f"{MAX_WAITING} calls are waiting already", hint="try again later")
        self.left -= count
