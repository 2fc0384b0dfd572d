"""A server that is replaced, killed or followed by a standby: what is deployed goes on answering."""

import os
import shutil
import signal
import threading
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from homeport.settings import profiles
from homeport.settings.profiles import Profile, Profiles
from homeport.state import tables
from tests.waiting import wait_for

SOURCE = Path(tables.__file__).parents[1]

PROFILES = Profiles(
    current="elsewhere",
    by_name={"elsewhere": Profile(server="https://apps.example.com", token="ak-1.as-1")},
)
APP = """
    import os
    import modal

    app = modal.App("steady")

    @app.function(min_containers=1, max_containers=1)
    @modal.concurrent(max_inputs=20)
    @modal.fastapi_endpoint()
    def container():
        return os.environ["MODAL_TASK_ID"]
"""


def ask(url: str) -> str:
    return httpx.get(url, timeout=60, trust_env=False).raise_for_status().json()


@contextmanager
def load(url: str):
    """Ask all the time, on old and on new connections; yields the list of answers and the list of errors."""
    answers, errors, ended = [], [], threading.Event()

    def visit():
        while not ended.is_set():
            with httpx.Client(timeout=60, trust_env=False) as client:
                for _ in range(10):
                    try:
                        answers.append(client.get(url).raise_for_status().json())
                    except httpx.HTTPError as error:
                        errors.append(repr(error))
                    ended.wait(0.01)  # so that it leaves some of a small machine to the servers

    visitor = threading.Thread(target=visit)
    visitor.start()
    try:
        wait_for(lambda: len(answers) > 10, "answers")
        yield answers, errors
    finally:
        ended.set()
        visitor.join()


def serves(terminal, *, but: int) -> int:
    """Wait for another control plane; return its pid."""

    def look() -> int:
        done = terminal.run("status", "--json", check=False)
        if done.returncode:
            return 0
        pid = httpx.Response(200, text=done.stdout).json()["pid"]
        return pid if pid != but else 0

    return wait_for(look, "another control plane")


def test_a_server_in_the_foreground_is_replaced_and_killed_and_no_request_fails(terminal, write):
    keeper = terminal.start("up", "--foreground")
    keeper.wait_for("homeport is up")
    url = terminal.deploy(write(APP))["container"]
    first, container = terminal.status()["pid"], ask(url)
    with load(url) as (answers, errors):
        keeper.process.send_signal(signal.SIGHUP)
        second = serves(terminal, but=first)
        seen = len(answers)
        wait_for(lambda: len(answers) > seen + 10, "answers of the second")
        os.kill(second, signal.SIGKILL)
        third = serves(terminal, but=second)
        seen = len(answers)
        wait_for(lambda: len(answers) > seen + 10, "answers of the third")
    refused = terminal.run("up", "--foreground", check=False)
    keeper.process.send_signal(signal.SIGTERM)
    code = keeper.end()

    assert [] == errors
    assert {container} == set(answers)
    assert 3 == len({first, second, third})
    assert (1, True) == (refused.returncode, "another server uses" in refused.stderr)
    assert 0 == code
    assert wait_for(lambda: not terminal.processes(), "the end of everything")


MIGRATION = """
import sqlalchemy as sa
from alembic import op

revision, down_revision = "9999", "{before}"


def upgrade() -> None:
    op.create_table("later", sa.Column("id", sa.Integer))
"""


def installer(folder: Path, environ: dict[str, str]):
    """Return a function that installs a version of the code: it moves a link, as `service upgrade` does."""
    current = folder / "current"
    environ["PYTHONPATH"] = str(current)
    (folder / "old").mkdir()
    (folder / "old/homeport").symlink_to(SOURCE)

    def install(version: Path) -> None:
        (folder / "next").symlink_to(version)
        (folder / "next").replace(current)

    install(folder / "old")
    return install


def later_version(folder: Path) -> None:
    """Make a copy of the code with another version and a migration."""
    shutil.copytree(SOURCE, folder / "homeport", ignore=shutil.ignore_patterns("__pycache__"))
    state = folder / "homeport/state"
    text = (state / "tables.py").read_text()
    (state / "tables.py").write_text(text.replace(f'"{tables.SCHEMA}"', '"9999"'))
    migration = MIGRATION.format(before=tables.SCHEMA)
    (state / "migrations/versions/9999_later.py").write_text(migration)
    (folder / "homeport/_version.py").write_text('__version__ = "99.9"\n')
    about = folder / "homeport-99.9.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: homeport\nVersion: 99.9\n")


def test_a_new_version_with_a_migration_takes_over_and_an_older_one_is_refused(
    terminal, write, tmp_path
):
    old, new = tmp_path / "old", tmp_path / "new"
    install = installer(tmp_path, terminal.environ)
    later_version(new)
    keeper = terminal.start("up", "--foreground")
    keeper.wait_for("homeport is up")
    url = terminal.deploy(write(APP))["container"]
    before, container = terminal.status(), ask(url)
    with load(url) as (answers, errors):
        install(new)
        keeper.process.send_signal(signal.SIGHUP)
        second = serves(terminal, but=before["pid"])
        after = terminal.status()
        other = terminal.deploy(write(APP.replace('"steady"', '"more"'), "more.py"))["container"]
        seen = len(keeper.lines)
        install(old)
        keeper.process.send_signal(signal.SIGHUP)
        keeper.wait_for("by a later homeport", after=seen)
        install(new)
        serves(terminal, but=second)
        seen = len(answers)
        wait_for(lambda: len(answers) > seen + 10, "answers of the new version again")
    more = ask(other)
    keeper.process.send_signal(signal.SIGTERM)

    assert [] == errors
    assert {container} == set(answers)
    assert more not in ("", container)
    assert "99.9" == after["version"] != before["version"]
    assert 0 == keeper.end()


@pytest.mark.parametrize(
    "how", ["killed", pytest.param("without its database", marks=pytest.mark.soak)]
)
def test_a_standby_takes_over_with_the_code_of_now_and_no_request_fails(
    how, terminal, write, postgres, tmp_path
):
    install = installer(tmp_path, terminal.environ)
    later_version(tmp_path / "new")
    terminal.environ["HOMEPORT_DATABASE"] = postgres.url_of(terminal.home)
    leader = terminal.start("up", "--foreground")
    leader.wait_for("homeport is up")
    url = terminal.deploy(write(APP))["container"]
    first, container = terminal.status()["pid"], ask(url)
    standby = terminal.start("up", "--standby")
    standby.wait_for("waiting as a standby")
    install(tmp_path / "new")
    with load(url) as (answers, errors):
        if how == "killed":
            leader.process.kill()  # what would start the leader again
            os.kill(first, signal.SIGKILL)
        else:
            leader.process.kill()
            os.kill(
                first, signal.SIGSTOP
            )  # or it could take the lock again before the standby looks
            with postgres.connect() as connection:
                ended = connection.execute(
                    "select count(pg_terminate_backend(pid)) from pg_stat_activity "
                    "where pid in (select pid from pg_locks where locktype = 'advisory')"
                ).fetchone()[0]
            standby.wait_for("the leader has lost the database")
            os.kill(first, signal.SIGCONT)
            assert ended
        second = serves(terminal, but=first)
        version = terminal.status()["version"]
        seen = len(answers)
        wait_for(lambda: len(answers) > seen + 10, "answers of the standby")
        other = terminal.deploy(write(APP.replace('"steady"', '"more"'), "more.py"))["container"]
    more = ask(other)
    standby.process.send_signal(signal.SIGTERM)

    assert [] == errors
    assert {container} == set(answers)
    assert more != container
    assert (True, "99.9") == (second != first, version)
    assert 0 == standby.end()


def test_sigterm_leaves_nothing_and_down_ends_the_supervisor(terminal, write, tmp_path):
    profiles.write(terminal.home, PROFILES)  # of a login in the home of a service
    keeper = terminal.start("up", "--foreground")
    keeper.wait_for("homeport is up")
    terminal.environ["HOMEPORT_PROFILE"] = "local"
    url = terminal.deploy(write(APP))["container"]
    ask(url)
    terminal.run("backup", "--no-passphrase", tmp_path / "file")
    restored = terminal.run("restore", "--yes", "--force", tmp_path / "file", check=False)
    keeper.process.send_signal(signal.SIGSTOP)
    os.kill(terminal.status()["pid"], signal.SIGKILL)  # HAProxy and the container go on
    keeper.process.terminate()
    keeper.process.send_signal(signal.SIGCONT)
    killed = keeper.end()
    wait_for(lambda: not terminal.processes(), "the end of everything after a kill")

    assert (1, True) == (restored.returncode, "systemctl stop homeport" in restored.stderr)
    assert 0 == killed

    again = terminal.start("up", "--foreground")
    again.wait_for("homeport is up")
    ask(url)
    again.process.send_signal(signal.SIGHUP)
    again.process.terminate()
    handed_over = again.end()
    wait_for(lambda: not terminal.processes(), "the end of everything while it hands over")
    last = terminal.start("up", "--foreground")
    last.wait_for("homeport is up")
    terminal.run("down")

    assert (0, 0) == (handed_over, last.end())
    assert wait_for(lambda: not terminal.processes(), "the end of everything by `down`")
