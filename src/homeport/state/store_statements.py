"""The statements of `store.py`, made once: to make a statement takes four times as long as to run it.

Nearly all of them take `tables.parameters` of their environment.
"""

import dataclasses
from collections.abc import Iterable
from typing import Any, NamedTuple

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Delete,
    Select,
    Table,
    and_,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)

from homeport.state import tables
from homeport.state.rows import AppRow, Revision
from homeport.state.tables import meant

_A, _R, _E, _C = tables.apps, tables.revisions, tables.endpoints, tables.canaries
_APP: BindParameter[str] = bindparam("of_app")


def names(cls: type) -> list[str]:
    """Return the columns of a row that becomes an object of this class, but for those of its environment."""
    return [field.name for field in dataclasses.fields(cls) if field.name != "scope"]


def columns(table: Table, cls: type) -> Iterable[ColumnElement[Any]]:
    """Return the columns that an object of this class needs."""
    return (table.c[name] for name in names(cls))


class Doomed(NamedTuple):
    """Some rows: their number, and their end."""

    number: Select[Any]
    delete: Delete


def _doomed(table: Table, *conditions: ColumnElement[bool]) -> Doomed:
    these = and_(*conditions)
    return Doomed(select(func.count()).select_from(table).where(these), delete(table).where(these))


_OF_APP = and_(meant(_A), _A.c.name == _APP)
_REVISIONS_OF_APP = and_(meant(_R), _R.c.app == _APP)
_PORTS = select(_E.c.id, _E.c.app, _E.c.local_port)
# A canary's revision serves nothing of the app's own URLs.
_IS_NO_CANARY = _R.c.id.not_in(select(_C.c.revision))
_SERVED = (
    select(_A.c.version)
    .where(_A.c.workspace == _R.c.workspace, _A.c.environment == _R.c.environment)
    .where(_A.c.name == _R.c.app)
    .scalar_subquery()
)
_SERVED_OF_APP = select(_A.c.version).where(_OF_APP).scalar_subquery()

APP = select(*columns(_A, AppRow)).where(_OF_APP)
APPS = select(*columns(_A, AppRow)).where(meant(_A)).order_by(_A.c.created_at.desc())
EVERY_APP = select(_A.c.workspace, _A.c.environment, *columns(_A, AppRow)).order_by(
    _A.c.created_at.desc()
)
INSERT_APP = insert(_A)
UPDATE_APP = update(_A).where(_OF_APP)  # with the new values as parameters
DELETE_APP = delete(_A).where(_OF_APP)

REVISIONS = select(*columns(_R, Revision)).where(_REVISIONS_OF_APP).order_by(_R.c.version.desc())
REVISION = select(*columns(_R, Revision)).where(
    _REVISIONS_OF_APP, _R.c.version == bindparam("of_version")
)
NUMBERS = select(_R.c.id, _R.c.version).where(_REVISIONS_OF_APP)
NEWEST = select(func.max(_R.c.version)).where(_REVISIONS_OF_APP)
INSERT_REVISION = insert(_R)
REMOVED = (
    _doomed(_R, meant(_R), _R.c.id == bindparam("of_revision")),
    _doomed(_C, meant(_C), _C.c.revision == bindparam("of_revision")),
)
#: Revisions whose deploy did not end.
UNSERVED = _doomed(_R, _R.c.version > func.coalesce(_SERVED, 0), _IS_NO_CANARY)
UNSERVED_OF_APP = _doomed(
    _R, _REVISIONS_OF_APP, _R.c.version > func.coalesce(_SERVED_OF_APP, 0), _IS_NO_CANARY
)

EVERY_PORT = select(_E.c.id, _E.c.local_port)
ENDPOINTS = _PORTS.where(meant(_E))
ENDPOINTS_OF_APP = select(_E.c.id).where(meant(_E), _E.c.app == _APP)
DELETE_ENDPOINTS = delete(_E).where(
    meant(_E), (_E.c.app == _APP) | _E.c.id.in_(bindparam("or_these", expanding=True))
)
INSERT_ENDPOINT = insert(_E)
