"""The database behind the store: SQLite in the home, or PostgreSQL by a URL.

Transactions run in threads, so that the event loop never waits for a disk or for another machine:

    await database.read(work)       work(connection) in a transaction that only reads
    await database.write(work)      work(connection) in the only transaction that writes
    await database.in_turn(work)    work(), between two writes: several transactions of its own
    await database.together(work)   as `write`; small works that wait at once share one transaction, and one fsync
    await database.read_together(work)   as `read`; small works that wait at once share one transaction

Writes happen one after the other, in the order of the calls, also when a caller is cancelled: the undo of a
step comes after the step. Each error of the database becomes a `StorageError`, and no change is half-done.
"""

import asyncio
import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, QueuePool, create_engine, func, select
from sqlalchemy.exc import SQLAlchemyError

from homeport.contract.errors import StorageError
from homeport.state import urls
from homeport.state.together import UNSTORABLE, Together, unstorable

BUSY_S = 5.0  # how long a transaction waits for another process's transaction
ANSWER_S = 10.0  # how long PostgreSQL may take for one statement
CONNECT_S = 5
READERS = 4  # reads at once; more wait for one to end
WRITERS = 0x686F6D65  # the advisory lock that each writer holds in PostgreSQL
#: By these PostgreSQL finds out within 8 s that the machine of a server is gone, and gives its lock to a standby.
LIVES = (
    ("tcp_keepalives_idle", "4"),
    ("tcp_keepalives_interval", "1"),
    ("tcp_keepalives_count", "4"),
)
SERVERS = 0x706F7274  # the one that a server holds as long as it runs

T = TypeVar("T")


class Database:
    """One database, and the threads that use it."""

    def __init__(self, url: URL, executor: Executor | None = None) -> None:
        self.url = url
        self.file = Path(url.database) if urls.is_sqlite(url) and url.database else None
        self._inode: tuple[int, int] | None = None
        self._engine = self._sqlite(self.file) if self.file else _postgres(url)
        self._readers = executor or ThreadPoolExecutor(READERS, thread_name_prefix="reads")
        self._writer = executor or ThreadPoolExecutor(1, thread_name_prefix="writes")
        self._claim: Connection | None = None  # its session holds the servers' lock
        self._claiming = threading.Lock()
        self._is_server = False
        self.taken = False  # another server has taken the database while PostgreSQL was away
        # One thread: each statement waits for the interpreter's lock again. PostgreSQL may be far away, so several wait for it.
        self._small = executor or ThreadPoolExecutor(
            1 if self.file else READERS, thread_name_prefix="small reads"
        )
        self._writes = Together(self._writer, self.writing, lambda e: self.failure("written", e))
        self._reads = Together(self._small, self.reading, lambda e: self.failure("read", e))

    @property
    def postgres(self) -> bool:
        """True if it is PostgreSQL."""
        return self.file is None

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a reading transaction."""
        return await self._run(self._readers, self._read, work)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a writing transaction, whole or not at all."""
        self._writes.begin()
        return await self._run(self._writer, self._write, work)

    async def together(self, work: Callable[[Connection], T]) -> T:
        """Run a small `work` as `write` does, in one transaction with others that wait at the same time."""
        return await self._writes.run(work)

    async def read_together(self, work: Callable[[Connection], T]) -> T:
        """Run a small `work` as `read` does, in one transaction with others that wait at the same time."""
        return await self._reads.run(work)

    async def in_turn(self, work: Callable[[], T]) -> T:
        """Run `work` between two writes; it uses `reading` and `writing`."""
        self._writes.begin()
        return await self._run(self._writer, work)

    async def close(self) -> None:
        """Close the database after the writes that were called before."""
        self._writes.begin()
        self._reads.begin()
        for executor in (self._writer, self._readers, self._small):
            await asyncio.to_thread(executor.shutdown)
        self.dispose()

    def dispose(self) -> None:
        """Close every connection."""
        with self._claiming:
            self._is_server = False
            if self._claim is not None:
                # PostgreSQL notices a moment later that a session is closed, and the next server may be faster.
                with contextlib.suppress(SQLAlchemyError):
                    self._claim.execute(select(func.pg_advisory_unlock(SERVERS)))
                self._claim.invalidate()
                self._claim.close()
                self._claim = None
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Yield a connection in a transaction that only reads; blocks."""
        with self._transaction("read", writes=False) as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """Yield a connection in the only writing transaction of all processes; blocks until it starts.

        A server that has lost the servers' lock, and cannot take it again, does not write.
        """
        self.keep()
        with self._transaction("written", writes=True) as connection:
            if self.postgres:
                connection.execute(select(func.pg_advisory_xact_lock(WRITERS)))
            yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """Yield a connection in a transaction that sees the rows of one moment; blocks."""
        with self.reading() as connection:
            if self.postgres:
                query = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"
                connection.exec_driver_sql(query)
            yield connection

    def claim(self) -> None:
        """Lock this database against other servers; blocks. A SQLite file has its home's lock instead."""
        if not self.postgres:
            return
        with self._claiming:
            self._take()
            self._is_server = True

    def keep(self) -> None:
        """Take the servers' lock again if the session with it has ended, as by a restart of PostgreSQL; blocks.

        Raises `StorageError` if PostgreSQL does not answer, or if another server has the lock by now (`taken`).
        """
        with self._claiming:
            if not self._is_server:
                return
            if self._claim is not None and not _lives(self._claim):
                self._claim = None
            if self._claim is None:
                self._take()

    def _take(self) -> None:
        connection = None
        try:
            connection = self._engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            for name, value in LIVES:
                connection.execute(select(func.set_config(name, value, False)))
            self.taken = not connection.scalar(select(func.pg_try_advisory_lock(SERVERS)))
        except SQLAlchemyError as error:
            if connection is not None:
                connection.close()
            raise self.failure("opened", error) from None
        if self.taken:
            connection.close()
            raise StorageError(
                f"another server uses {urls.shown(self.url)}",
                hint="each server needs a database of its own: name another one in HOMEPORT_DATABASE",
            )
        self._claim = connection

    def failure(self, done: str, error: Exception) -> StorageError:
        """Return the error for the user, without the URL's password, SQL or values."""
        cause = getattr(error, "orig", None) or error
        why = urls.without_password(str(cause).strip().partition("\n")[0], self.url)
        if not isinstance(cause, sqlite3.Error):
            return StorageError(
                f"the database {urls.shown(self.url)} cannot be {done}: {why}", hint=_POSTGRES_HINT
            )
        name = getattr(cause, "sqlite_errorname", "")
        hint = next((hint for start, hint in _SQLITE_HINTS.items() if name.startswith(start)), "")
        return StorageError(f"{self.file} cannot be {done}: {why}", hint=hint)

    @contextmanager
    def _transaction(self, done: str, *, writes: bool) -> Iterator[Connection]:
        self._check_file()
        try:
            with self._engine.connect() as connection, connection.begin():
                if not self.postgres:
                    _begin(connection, writes=writes)
                yield connection
        except UNSTORABLE as error:
            raise unstorable(error) from None
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise self.failure(done, error) from None

    def _read(self, work: Callable[[Connection], T]) -> T:
        with self.reading() as connection:
            return work(connection)

    def _write(self, work: Callable[[Connection], T]) -> T:
        with self.writing() as connection:
            return work(connection)

    async def _run(self, executor: Executor, work: Callable[..., T], *args: Any) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(executor, work, *args)
        except RuntimeError as error:  # the executor's, after `close`
            raise StorageError("the server is ending") from error

    def _check_file(self) -> None:
        """Check that the file is still the one that was opened; SQLite would write to a deleted file."""
        if self.file is None or self._inode is None:
            return
        try:
            now = _inode(self.file)
        except OSError:
            now = None
        if now != self._inode:
            raise StorageError(
                f"{self.file} is gone, or another file is in its place",
                hint="what serves continues to serve; `homeport down`, then `homeport restore` with a backup",
            )

    def _sqlite(self, path: Path) -> Engine:
        """Return an engine for a file; its connections never create the file again."""

        def connect() -> sqlite3.Connection:
            mode = "rwc" if self._inode is None else "rw"
            name = f"{path.absolute().as_uri()}?mode={mode}"
            connection = sqlite3.connect(
                name, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False
            )
            try:
                connection.execute("PRAGMA journal_mode=WAL")
                # One fsync for each transaction: a finished deploy survives a power cut.
                connection.execute("PRAGMA synchronous=FULL")
                self._inode = self._inode or _inode(path)
            except BaseException:
                connection.close()
                raise
            return connection

        return create_engine(
            "sqlite://",
            creator=connect,
            poolclass=QueuePool,
            pool_size=READERS + 2,
            pool_use_lifo=True,  # the connection that was used last still has pages in its cache
        )


#: Beginning of SQLite's name of an error -> hint.
_SQLITE_HINTS = {
    "SQLITE_BUSY": "another program writes to it: end that one, and try again",
    "SQLITE_FULL": "make room on the disk; `df -h` shows which one is full",
    "SQLITE_READONLY": "let the server's user write to the file and to its folder",
    "SQLITE_CANTOPEN": "let the server's user read and write the file and its folder",
    "SQLITE_PERM": "let the server's user read and write the file and its folder",
    "SQLITE_IOERR": "the disk fails, or is full: `dmesg` may say more",
    "SQLITE_CORRUPT": "the file is damaged: restore a backup with `homeport restore`",
    "SQLITE_NOTADB": "the file is damaged: restore a backup with `homeport restore`",
}
_POSTGRES_HINT = "see whether PostgreSQL runs and lets us in; `homeport doctor` tries it"


def _begin(connection: Connection, *, writes: bool) -> None:
    """Use `BEGIN IMMEDIATE` for writers, so that no two of them read the same state (SQLite, isolation)."""
    # The driver's own call: SQLAlchemy's takes a fifth of an empty transaction, and an event of the engine slows each statement.
    connection.connection.cursor().execute("BEGIN IMMEDIATE" if writes else "BEGIN")


def _postgres(url: URL) -> Engine:
    try:
        import psycopg  # noqa: F401 - an extra; SQLAlchemy's own error would not name it
    except ImportError:
        raise StorageError(
            "PostgreSQL needs a driver, and none is installed",
            hint="`pip install 'homeport[postgres]'`",
        ) from None
    waits_ms = f"-c statement_timeout={ANSWER_S * 1000:.0f} -c lock_timeout={BUSY_S * 1000:.0f}"
    return create_engine(
        url,
        pool_pre_ping=True,  # so that the first call after a restart of PostgreSQL works
        pool_size=2 * READERS + 2,
        connect_args={
            "connect_timeout": CONNECT_S,
            "options": waits_ms,
            "application_name": "homeport",
            "tcp_user_timeout": int(ANSWER_S * 1000),  # ms without an answer of the other machine
            **url.query,
        },
    )


def _lives(connection: Connection) -> bool:
    """Return whether a session answers; end it if it does not."""
    try:
        connection.execute(select(1))
    except SQLAlchemyError:
        connection.invalidate()
        connection.close()
        return False
    return True


def _inode(path: Path) -> tuple[int, int]:
    status = os.stat(path)  # noqa: PTH116 - called for each transaction
    return status.st_dev, status.st_ino
