"""Statements that run often: their text is made once, and the driver runs it.

SQLAlchemy takes 65 us to run a small INSERT that it has made before, and 10 of these are the driver's (docs/decisions.md).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.base import Executable


class Ready:
    """A statement with parameters that `bindparam` names, and without lists (`in_`); the driver must accept its
    values.
    """

    def __init__(self, statement: Executable, *columns: str) -> None:
        """`columns` are those that an INSERT is given."""
        self._statement: Any = statement
        self._columns = list(columns) or None
        self._compiled: dict[str, _Made] = {}  # by the dialect's name

    def rows(self, connection: Connection, values: Mapping[str, Any]) -> list[Any]:
        """Run it, and return its rows as tuples."""
        rows: list[Any] = self._run(connection, [values]).fetchall()
        return rows

    def changed(self, connection: Connection, values: Mapping[str, Any]) -> int:
        """Run it, and return how many rows it has changed."""
        return int(self._run(connection, [values]).rowcount)

    def all(self, connection: Connection, values_of_rows: Sequence[Mapping[str, Any]]) -> None:
        """Run it for each of these values."""
        self._run(connection, values_of_rows)

    def _run(self, connection: Connection, values_of_rows: Sequence[Mapping[str, Any]]) -> Any:
        dialect = connection.dialect
        compiled = self._compiled.get(dialect.name)
        if compiled is None:
            compiled = self._compiled[dialect.name] = _Made(self._statement, self._columns, dialect)
        parameters = [compiled.parameters(values) for values in values_of_rows]
        dbapi = dialect.loaded_dbapi
        try:
            cursor = connection.connection.cursor()
            if len(parameters) == 1:
                cursor.execute(compiled.text, parameters[0])
            else:
                cursor.executemany(compiled.text, parameters)
        except dbapi.Error as error:  # as SQLAlchemy raises it
            raise DBAPIError.instance(
                None, None, error, dbapi.Error, hide_parameters=True, dialect=dialect
            ) from error
        return cursor


class _Made:
    """A statement's text in one dialect, and its constants."""

    def __init__(self, statement: Any, columns: list[str] | None, dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect, column_keys=columns)
        self.text: str = compiled.string
        self._constants: dict[str, Any] = {
            name: bind.value for name, bind in compiled.binds.items()
        }
        self._places: list[str] | None = compiled.positiontup  # None: parameters have names

    def parameters(self, values: Mapping[str, Any]) -> Any:
        """Return the parameters in the driver's form: those of `values`, and the constants."""
        every = {**self._constants, **values}
        return every if self._places is None else [every[name] for name in self._places]
