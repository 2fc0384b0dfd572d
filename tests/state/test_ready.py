"""Statements that the driver runs itself give what SQLAlchemy's would, and fail as they do."""

import asyncio

import pytest
from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError

from homeport.contract.errors import BadRequest, StorageError
from homeport.state import tables
from homeport.state.ready import Ready

_T = tables.dict_items
ADD = Ready(insert(_T), *(column.name for column in _T.c))
OLD = Ready(
    select(_T.c.digest, _T.c.value, _T.c.used_at)
    .where(_T.c.dict == "a", _T.c.used_at < bindparam("before"))
    .order_by(_T.c.place)
)
USE = Ready(update(_T).where(_T.c.dict == bindparam("of")).values(used_at=_T.c.used_at + 1.5))


def row(number: int, of: str = "a"):
    digest, value = bytes([number]) * 32, bytes([0, number, 255])
    return {"dict": of, "digest": digest, "place": number, "key": b"k", "value": value, "used_at": float(number)}  # fmt: skip


@pytest.mark.parametrize("count", [1, 3])
async def test_values_go_and_come_back(database, count):
    def work(connection):
        ADD.all(connection, [row(number) for number in range(count)])
        ADD.all(connection, [row(9, of="another's")])
        return USE.changed(connection, {"of": "a"}), OLD.rows(connection, {"before": 100.0})

    changed, found = await database.write(work)
    assert count == changed
    assert [(bytes([n]) * 32, bytes([0, n, 255]), n + 1.5) for n in range(count)] == [
        tuple(each) for each in found
    ]
    assert [] == await database.read(lambda c: OLD.rows(c, {"before": 1.0}))


async def test_an_error_of_the_driver_is_sqlalchemys(database):
    caught = []

    def work(connection):
        ADD.all(connection, [row(1)])
        try:
            ADD.all(connection, [row(1)])
        except IntegrityError as error:
            caught.append(error)
            raise

    with pytest.raises(StorageError, match="cannot be written"):
        await database.write(work)
    assert [] == await database.read(lambda c: OLD.rows(c, {"before": 100.0}))
    assert 1 == len(caught)


async def test_of_works_that_go_together_one_that_fails_touches_no_other(database):
    ends = await asyncio.gather(
        *(database.together(lambda c, n=number: ADD.all(c, [row(n)])) for number in (1, 2, 1, 3)),
        return_exceptions=True,
    )

    assert [None, None, StorageError, None] == [e and type(e) for e in ends]
    found = await database.read(lambda c: OLD.rows(c, {"before": 100.0}))
    assert [1.0, 2.0, 3.0] == [each[2] for each in found]


async def test_a_text_that_no_database_can_keep_is_refused_in_words(database):
    with pytest.raises(BadRequest, match="cannot keep"):
        await database.write(lambda c: ADD.all(c, [row(1, of="half a character: \ud800")]))
