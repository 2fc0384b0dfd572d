"""What `homeport backup`, `restore` and `doctor` ask of the state, which is a process of its own."""

import io
import json
import sys

import pytest

from homeport.contract.errors import AlreadyExists
from homeport.settings import Settings
from homeport.state import __main__ as commands
from tests.state.test_backup import fill, look

PASSPHRASE = "a long passphrase"


@pytest.fixture
def ask(monkeypatch):
    """Ask as the commands do: an object of JSON on standard input."""

    def ask(home, do: str, **words) -> dict:
        order = {"do": do, "settings": {"home": str(home)}, **words}
        monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(order)))
        return commands._answer([])

    return ask


async def test_a_backup_is_made_looked_at_and_restored_as_the_order_says(ask, tmp_path):
    home, other, file = tmp_path / "home", tmp_path / "other", str(tmp_path / "file")
    await fill(Settings(home=home))
    made = ask(home, "backup", file=file, passphrase=PASSPHRASE)
    with pytest.raises(AlreadyExists):
        ask(home, "backup", file=file, passphrase=PASSPHRASE)

    assert {"has_passphrase": True} == ask(home, "lock", file=file)
    other.mkdir()
    assert made == ask(other, "check", file=file, passphrase=PASSPHRASE)
    assert [] == [*other.iterdir()]
    assert made == ask(other, "restore", file=file, passphrase=PASSPHRASE)
    assert await look(Settings(home=home)) == await look(Settings(home=other))
    with pytest.raises(AlreadyExists):
        ask(other, "restore", file=file, passphrase=PASSPHRASE)
    assert made == ask(other, "restore", file=file, passphrase=PASSPHRASE, force=True)


async def test_doctor_hears_which_database_there_is_and_none_is_made_for_it(ask, tmp_path):
    assert "once a server has run" in ask(tmp_path, "look")["told"]
    assert [] == [*tmp_path.iterdir()]
    await fill(Settings(home=tmp_path))

    assert "SQLite" in ask(tmp_path, "look")["told"]
