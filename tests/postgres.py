"""A PostgreSQL of our own: Debian's `postgresql`, on a Unix socket, as an unprivileged user.

The tests install it if they run as root on Debian; elsewhere they say what is missing.
"""

import fcntl
import hashlib
import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests import memory
from tests.waiting import wait_for

if TYPE_CHECKING:  # each worker imports this module, and few tests need the driver
    import psycopg

USER, PASSWORD = "homeport", "s3cret:with/odd@chars%"
SETTINGS = (
    "listen_addresses=",
    "fsync=off",
    "full_page_writes=off",
    "max_connections=200",
    "wal_level=minimal",
    "max_wal_senders=0",
    "autovacuum=off",
    "log_min_messages=fatal",
)


class Postgres:
    """A running server; `url` returns the URL of a database."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder  # with the socket
        self.process: subprocess.Popen[bytes] | None = None

    def connect(self, database: str = "postgres") -> "psycopg.Connection":
        import psycopg

        return psycopg.connect(
            host=str(self.folder), user=USER, password=PASSWORD, dbname=database, autocommit=True
        )

    def url(self, name: str, password: str = PASSWORD, *, template: str = "template1") -> str:
        """Return the URL of the database of this name; create it if it does not exist, as a copy of another."""
        from psycopg import sql

        with self.connect() as connection:
            known = connection.execute("select 1 from pg_database where datname = %s", [name])
            if known.fetchone() is None:
                words = "create database {} template {}"
                if connection.info.server_version >= 150000:
                    words += " strategy file_copy"  # a third of the work of the other
                create = sql.SQL(words)
                names = (sql.Identifier(name), sql.Identifier(template))
                connection.execute(create.format(*names))
        secret = "".join(c if c.isalnum() else f"%{ord(c):02X}" for c in password)
        return f"postgresql://{USER}:{secret}@/{name}?host={self.folder}"

    def url_of(self, home: Path, *, template: str = "template1") -> str:
        """Return the URL of the database that replaces a home's file."""
        name = "h" + hashlib.sha256(os.fsencode(home)).hexdigest()[:20]
        return self.url(name, template=template)

    def drop(self, home: Path) -> None:
        """Delete the database that replaced a home's file: it is in memory."""
        from psycopg import sql

        name = sql.Identifier("h" + hashlib.sha256(os.fsencode(home)).hexdigest()[:20])
        if self.process is not None:
            with self.connect() as connection:
                words = sql.SQL("drop database if exists {} with (force)")
                connection.execute(words.format(name))

    def start(self) -> None:
        import psycopg

        options = [word for setting in SETTINGS for word in ("-c", setting)]
        where = ["-D", str(self.folder / "data"), "-k", str(self.folder)]
        with (self.folder / "log").open("a") as log:
            self.process = subprocess.Popen(
                [_binary("postgres"), *where, *options],
                cwd=self.folder,
                stdout=subprocess.DEVNULL,
                stderr=log,
                **_as_somebody(),
            )
        process = self.process

        def answers() -> bool:
            assert process.poll() is None, (self.folder / "log").read_text()
            try:
                self.connect().close()
            except psycopg.OperationalError:
                return False
            return True

        wait_for(answers, "PostgreSQL")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop the server: by SIGINT in good order, by SIGQUIT as in a crash."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait()
            self.process = None


#: The server for the state of every home; set by `pytest --postgres`.
everywhere: Postgres | None = None


def setting(home: Path) -> str:
    """Return the setting `database` for a home: empty, or a URL with `pytest --postgres`."""
    return everywhere.url_of(home) if everywhere else ""


@contextmanager
def running() -> Iterator[Postgres]:
    """Run a server until the block ends."""
    initdb = _binary("initdb")
    # Not in pytest's folder: another user cannot enter it. A copy of a database is 300 files.
    with memory.directory("pg") as folder:
        _make(folder, initdb)
        server = Postgres(folder)
        server.start()
        try:
            yield server
        finally:
            server.stop(signal.SIGQUIT)  # the folder is removed, so nothing needs to be written


def _make(folder: Path, initdb: str) -> None:
    """Make the files of a server."""
    if who := _as_somebody():
        shutil.chown(folder, who["user"], who["group"])
    secret = folder / "password"
    secret.write_text(PASSWORD)
    secret.chmod(0o644)
    words = ["--no-sync", "--auth=scram-sha-256", f"--pwfile={secret}", "-U", USER]
    subprocess.run(
        [initdb, *words, "-E", "UTF8", "--locale=C", "-D", str(folder / "data")],
        cwd=folder,
        check=True,
        capture_output=True,
        **_as_somebody(),
    )


def _as_somebody() -> dict[str, int]:
    """PostgreSQL refuses to run as root."""
    if os.getuid() != 0:
        return {}
    somebody = pwd.getpwnam("postgres")
    return {"user": somebody.pw_uid, "group": somebody.pw_gid, "extra_groups": []}


def _binary(name: str) -> str:
    if (found := _found(name)) is None:
        _install()
        found = _found(name)
    assert found is not None, f"there is no {name}: install Debian's package `postgresql`"
    return found


def _found(name: str) -> str | None:
    there = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(there[-1]) if there else shutil.which(name)


def _install() -> None:
    if os.getuid() != 0 or shutil.which("apt-get") is None:
        return
    with Path("/var/tmp/homeport-apt.lock").open("w") as lock:  # of all workers, one installs
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _found("initdb") is None:
            quiet = {"env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, "check": True}
            subprocess.run(["apt-get", "update", "-q"], **quiet)
            words = ["apt-get", "install", "-qy", "--no-install-recommends", "postgresql"]
            subprocess.run(words, **quiet)
