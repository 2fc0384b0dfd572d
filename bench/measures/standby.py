"""A standby takes over from a leader with PostgreSQL: how long deploys wait, and what visitors notice."""

import os
import signal
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import httpx
from tests import postgres
from tests.journeys.conftest import Terminal
from tests.journeys.test_taking_over import APP
from tests.waiting import wait_for

from bench.contenders.home import home
from bench.figures import number, spread
from bench.plan import Plan
from bench.results import Table

AIM_S = 10.0
PAUSE_S = 0.01  # between requests
End = Callable[[int, postgres.Postgres], None]  # ends the leader with this pid


@dataclass(slots=True)
class Seen:
    """What a visitor saw."""

    seconds: list[float] = field(default_factory=list)  # of each answer
    failures: list[str] = field(default_factory=list)


def measure(plan: Plan) -> None:
    """Leaders that are killed, and leaders whose connection to the database is ended."""
    rows = []
    with postgres.running() as database:
        for title, end in (("is killed", _kill), ("loses its database", _cut)):
            seen = Seen()
            waits = [_takeover(plan, database, end, seen) for _ in range(plan.times(5, 1))]
            slowest = number(1000 * max(seen.seconds))
            rows.append(
                [
                    title,
                    str(spread(waits)),
                    str(len(seen.seconds)),
                    str(len(seen.failures)),
                    slowest,
                ]
            )
    plan.findings.tables.append(
        Table(
            title="Takeover by a standby",
            told="Two control planes with one PostgreSQL: from the end of the leader until the standby answers its API. "
            f"The aim is {AIM_S:.0f} s. Meanwhile a visitor asks a warm container, on old and new connections.",
            columns=["the leader", "until it leads (s)", "requests", "failed", "slowest (ms)"],
            rows=rows,
        )
    )


def _takeover(plan: Plan, database: postgres.Postgres, end: End, seen: Seen) -> float:
    """Return the seconds from the leader's end until another one answers."""
    with home() as terminal, plan.folder() as folder:
        terminal.environ["HOMEPORT_DATABASE"] = database.url_of(terminal.home)
        (script := folder / "script.py").write_text(textwrap.dedent(APP))
        leader = terminal.start("up", "--foreground")
        leader.wait_for("homeport is up")
        url = terminal.deploy(script)["container"]
        first = terminal.status()["pid"]
        standby = terminal.start("up", "--standby")
        standby.wait_for("waiting as a standby")
        with _visited(url, seen):
            leader.process.kill()  # it would start the leader again
            began = time.perf_counter()
            end(first, database)
            wait_for(lambda: _pid(terminal) not in (0, first), "the standby")
            taken_s = time.perf_counter() - began
            wanted = len(seen.seconds) + 20
            wait_for(lambda: len(seen.seconds) >= wanted, "answers after it")
        standby.process.send_signal(signal.SIGTERM)
        standby.end()
    return taken_s


def _kill(pid: int, _database: postgres.Postgres) -> None:
    os.kill(pid, signal.SIGKILL)


def _cut(pid: int, database: postgres.Postgres) -> None:
    """End the connections of the leader while it cannot act, so that it does not take its lock again."""
    os.kill(pid, signal.SIGSTOP)
    with database.connect() as connection:
        connection.execute(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity "
            "where pid in (select pid from pg_locks where locktype = 'advisory')"
        )
        free = "select count(*) from pg_locks where locktype = 'advisory'"
        wait_for(lambda: connection.execute(free).fetchone() != (0,), "the standby's claim")
    os.kill(pid, signal.SIGCONT)


def _pid(terminal: Terminal) -> int:
    with suppress(httpx.HTTPError, OSError):
        return int(terminal.ask("/v1/status")["pid"])
    return 0


@contextmanager
def _visited(url: str, seen: Seen) -> Iterator[None]:
    over = threading.Event()

    def visit() -> None:
        while not over.is_set():
            with httpx.Client(timeout=60, trust_env=False) as client:
                for _ in range(10):
                    began = time.perf_counter()
                    try:
                        client.get(url).raise_for_status()
                        seen.seconds.append(time.perf_counter() - began)
                    except httpx.HTTPError as error:
                        seen.failures.append(repr(error))
                    over.wait(PAUSE_S)

    visitor = threading.Thread(target=visit)
    visitor.start()
    try:
        yield
    finally:
        over.set()
        visitor.join()
