"""Numbers of rows: each is larger than those before, and none is used twice, also after the newest row was deleted.

A task may come back late with the number of its row, and must not find another row under it.
"""

from sqlalchemy import Column, Connection, func, select


class Numbers:
    """The numbers of one table's rows.

    One transaction writes at a time, of all processes (`Database.writing`), so two never read the same newest row.
    """

    def __init__(self, column: "Column[int]") -> None:
        self._newest = select(func.max(column))
        self._last = 0  # of this process; its transaction may have been undone

    def take(self, connection: Connection) -> int:
        """Return the next number, for a row that this transaction inserts."""
        self._last = max(self._last, connection.scalar(self._newest) or 0) + 1
        return self._last
