"""How a command asks `python -m homeport.state`, and what it asks its user."""

import asyncio
import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import types

import pytest
import typer

from homeport.cli import backup
from homeport.settings import Settings
from homeport.state import backup as backups
from homeport.state import schema, urls
from homeport.state.database import Database
from tests.postgres import PASSWORD
from tests.state.test_backup import fill


def test_doctor_is_told_which_database_it_is_and_that_it_answers(database_setting, home):
    settings = Settings(home=home, database=database_setting)
    before = backup.ask(settings, "look")["told"]
    database = Database(urls.of(database_setting, home))
    schema.prepare(database)
    database.dispose()
    after = backup.ask(settings, "look")["told"]

    assert "once a server has run" in before or "schema none yet" in before
    assert re.fullmatch(r"(SQLite|PostgreSQL) [\d.]+, .+, schema \d{4}", after)
    assert PASSWORD not in before + after


@pytest.fixture
async def unprotected(tmp_path):
    """A backup without a passphrase, of another home."""
    other = Settings(home=tmp_path / "other")
    await fill(other)
    backups.make(other, tmp_path / "a.backup", force=False)
    return tmp_path / "a.backup"


def restore(home, *words, stdin=subprocess.DEVNULL) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "homeport", "restore", *map(str, words)],
        env={**os.environ, "HOMEPORT_HOME": str(home)},
        stdin=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, " ".join(done.stderr.split())


def test_a_backup_does_not_get_a_passphrase_and_none_at_once(home, tmp_path):
    (tmp_path / "passphrase").write_text("correct horse battery\n")
    words = ["--no-passphrase", "--passphrase-file", tmp_path / "passphrase"]
    done = subprocess.run(
        [sys.executable, "-m", "homeport", "backup", tmp_path / "a.backup", *words],
        env={**os.environ, "HOMEPORT_HOME": str(home)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode
    assert "exclude each other" in done.stderr
    assert not (tmp_path / "a.backup").exists()


@pytest.mark.parametrize("words", [(), ("--force",)])
def test_a_file_without_a_passphrase_is_not_restored_unasked(unprotected, home, words):
    code, told = restore(home, unprotected, *words)

    assert 1 == code
    assert "has no passphrase" in told
    assert "`--yes`" in told
    assert not (home / "vault.key").exists()


def test_a_passphrase_that_is_given_is_asked_of_the_file(unprotected, home, tmp_path):
    (tmp_path / "passphrase").write_text("correct horse battery\n")
    code, told = restore(
        home, unprotected, "--yes", "--force", "--passphrase-file", tmp_path / "passphrase"
    )

    assert 1 == code
    assert "the backup has no passphrase" in told
    assert not (home / "vault.key").exists()


@pytest.mark.parametrize(("answer", "restored"), [(b"\n", False), (b"y\n", True)])
def test_the_user_decides_about_a_file_without_a_passphrase(unprotected, home, answer, restored):
    ours, theirs = pty.openpty()
    os.write(ours, answer)
    code, told = restore(home, unprotected, stdin=theirs)
    os.close(ours)
    os.close(theirs)

    assert (0 if restored else 1) == code
    assert "anybody may have written it. Restore it? [y/N]" in told
    assert restored == (home / "vault.key").exists()


async def test_both_commands_name_the_volumes_whose_files_a_backup_lacks(typed, home, tmp_path):
    wide = {"COLUMNS": "1000"}  # no line is wrapped, however long the path of the test's home is
    async with typed() as user:
        for name in ("models", "data"):
            await user.run("volume", "create", name)
        one = ("--no-passphrase", "--volume", "data")
        some = await user.run("backup", tmp_path / "a", *one, **wide)
        every = await user.run("backup", tmp_path / "b", "--no-passphrase", "--volumes")
    other = tmp_path / "other"
    wide["HOMEPORT_HOME"] = str(other)
    restored = await user.run("restore", "--yes", tmp_path / "a", **wide)

    assert f"0 apps and 0 secrets are in {tmp_path / 'a'}\n" in some.stderr
    assert "it has no passphrase" in some.stderr
    lacks = "the files of the volumes `models` are not in the backup: they are in"
    assert f"{lacks} {home / 'volumes'}; `--volumes` adds them" in some.stderr
    assert lacks not in every.stderr
    assert "0 apps and 0 secrets are back, as of " in restored.stderr
    assert f"{lacks} {other / 'volumes'}; put your copy of them there" in restored.stderr


def test_a_new_passphrase_is_asked_for_twice_without_showing_it(monkeypatch):
    asked = []
    monkeypatch.setattr(sys, "stdin", type("Terminal", (), {"isatty": lambda _: True})())
    monkeypatch.setattr(typer, "prompt", lambda _, **how: asked.append(how) or "typed")

    assert ["typed", "typed"] == [backup._passphrase("", new=new) for new in (True, False)]
    assert [(True, True), (True, False)] == [
        (how["hide_input"], how["confirmation_prompt"]) for how in asked
    ]


@pytest.mark.parametrize("moment", ["down", "restore", "start"])
def test_ctrl_c_during_a_restore_leaves_no_home_without_its_server(home, monkeypatch, moment):
    steps = []

    def step(name):
        steps.append(name)
        if name == moment:
            signal.raise_signal(signal.SIGINT)

    async def status(_settings):
        return types.SimpleNamespace(keeper=None)

    async def down(_settings):
        step("down")

    def ask(_settings, what, **_more):
        step(what)
        if what == moment:  # Ctrl-C reaches that process, too
            raise RuntimeError("no answer")
        return {}

    @contextlib.asynccontextmanager
    async def background(_settings):
        step("start")
        yield

    monkeypatch.setattr(backup, "_status", status)
    monkeypatch.setattr(backup, "ask", ask)
    monkeypatch.setattr(backup.server, "down", down)
    monkeypatch.setattr(backup.server, "background", background)
    expected = pytest.raises(KeyboardInterrupt) if moment == "restore" else contextlib.nullcontext()

    with expected:
        asyncio.run(backup._restore(Settings(home=home), home / "a.backup", "", force=True))
    assert ["check", "down", "restore", "start"] == steps
