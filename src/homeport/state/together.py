"""Small works that wait at the same time share one transaction, and so one fsync.

A group runs without savepoints, because a savepoint takes longer than a small work. If a work raises, the whole group is undone
and runs again with a savepoint for each work: that work changes nothing, and the others are not touched by it. So a work may
run twice, and must do nothing but ask its connection.
"""

import asyncio
import contextlib
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DataError, IntegrityError, SQLAlchemyError

from homeport.contract.errors import BadRequest, StorageError

T = TypeVar("T")
#: What a driver raises for a value that the database cannot keep: NUL in PostgreSQL, half a surrogate pair, more than 64 bits.
UNSTORABLE = (DataError, UnicodeEncodeError, OverflowError)


class Together:
    """Runs works of one kind, reads or writes, in the threads of an executor."""

    def __init__(
        self,
        executor: Executor,
        transaction: Callable[[], AbstractContextManager[Connection]],
        failure: Callable[[Exception], StorageError],
    ) -> None:
        """`transaction` begins one, and raises a `Failure` for an error of the database; `failure` makes one."""
        self._executor = executor
        self._transaction = transaction
        self._failure = failure
        self._waiting: list[_Work] = []
        self._is_handed = False  # a thread will take the list
        # A thread of the executor takes the list, and callers add to it.
        self._joining = threading.Lock()

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Run a work in the next group; return its result once the transaction has ended."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        new_work = _Work(work, done)
        with self._joining:
            self._waiting.append(new_work)
            is_first = len(self._waiting) == 1
        if is_first:
            # Other works of this turn of the loop join. A thread that began now would compete for the interpreter's
            # lock.
            loop.call_soon(self.begin)
        return await done

    def begin(self) -> None:
        """Start with the waiting works, so that they come before the next ones of the executor."""
        with self._joining:
            if self._is_handed or not self._waiting:
                return
            self._is_handed = True
        try:
            self._executor.submit(self._run_all)
            return
        except RuntimeError:  # after `Database.close`
            with self._joining:
                works, self._waiting, self._is_handed = self._waiting, [], False
        _tell([_End(work, None, StorageError("the server is ending")) for work in works])

    def _run_all(self) -> None:
        """Run the works that wait, and answer their callers after the commit."""
        with self._joining:
            works, self._waiting, self._is_handed = self._waiting, [], False
        values: list[Any] = []
        has_begun = False
        try:
            with self._transaction() as connection:
                has_begun = True
                values.extend(work.do(connection) for work in works)
        except Exception as error:
            if has_begun and len(values) < len(works) and len(works) > 1:
                ends = self._one_by_one(works)
            else:  # it cannot begin or cannot commit, or its only work raised
                ends = [_End(work, None, error) for work in works]
        else:
            ends = [_End(*end, None) for end in zip(works, values, strict=True)]
        _tell(ends)

    def _one_by_one(self, works: "Sequence[_Work]") -> "list[_End]":
        """Run the works again, each in a savepoint."""
        try:
            with self._transaction() as connection:
                return [self._alone(work, connection) for work in works]
        except Exception as error:
            return [_End(work, None, error) for work in works]

    def _alone(self, work: "_Work", connection: Connection) -> "_End":
        try:
            with connection.begin_nested():
                return _End(work, work.do(connection), None)
        except UNSTORABLE as error:
            return _End(work, None, unstorable(error))
        except IntegrityError as error:
            return _End(work, None, self._failure(error))
        except (SQLAlchemyError, sqlite3.Error):
            raise  # a full disk is full for all of them
        except Exception as error:
            return _End(work, None, error)


class _Work:
    """A work, and the future of its caller."""

    def __init__(self, work: Callable[[Connection], Any], done: "asyncio.Future[Any]") -> None:
        self.do, self.done = work, done
        self.loop = done.get_loop()


class _End(NamedTuple):
    """How a work ended."""

    work: _Work
    value: Any
    failure: BaseException | None


def unstorable(error: BaseException) -> BadRequest:
    """Return the error for one of `UNSTORABLE`."""
    if isinstance(error, OverflowError):
        return BadRequest("a number is larger than the database can keep")
    return BadRequest("a name or a text has a character that the database cannot keep")


def _tell(ends: Sequence[_End]) -> None:
    """Answer the callers, in their loops; called in a thread of the executor."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_End]] = {}
    for end in ends:
        by_loop.setdefault(end.work.loop, []).append(end)
    for loop, those in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(_answer, those)


def _answer(ends: Sequence[_End]) -> None:
    for work, value, failure in ends:
        if work.done.done():  # the caller was cancelled
            continue
        if failure is None:
            work.done.set_result(value)
        else:
            work.done.set_exception(failure)
