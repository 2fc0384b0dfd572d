"""Numbers of rows."""

from sqlalchemy import delete, insert

from homeport.state import tables
from homeport.state.numbers import Numbers
from homeport.state.scope import MAIN, columns

_T = tables.deploys


async def test_no_number_is_used_twice_and_a_later_server_begins_after_the_newest_row(database):
    def taken(numbers, *, is_kept=True):
        def work(connection):
            number = numbers.take(connection)
            values = {"app": "shop", "kind": "deploy", "at": 1.0, "tag": "", "by": "socket"}
            values |= {"user": "", "result": "ok", "reason": "", **columns(MAIN)}
            connection.execute(insert(_T).values(**values, id=number))
            if not is_kept:
                connection.execute(delete(_T).where(_T.c.id == number))
            return number

        return database.write(work)

    numbers = Numbers(_T.c.id)

    assert [1, 2] == [await taken(numbers, is_kept=kept) for kept in (True, False)]
    assert 3 == await taken(numbers)
    assert 4 == await taken(Numbers(_T.c.id))
    assert 5 == await taken(numbers)
