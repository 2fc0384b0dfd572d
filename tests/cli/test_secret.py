"""`homeport secret …` as a user types it."""

import dataclasses
import json
import os
import threading

import pytest

from homeport.cli import secret
from homeport.contract.manifest import SecretRef
from tests.control.plane import function


def uses(secret):
    """Return a function with a secret."""
    return dataclasses.replace(function("f"), secrets=(SecretRef(name=secret),))


async def test_a_secret_is_created_listed_replaced_and_deleted(typed, tmp_path):
    dotenv, values = tmp_path / ".env", tmp_path / "values.json"
    dotenv.write_text("# of the shop\nURL=http://a\nEMPTY\nKEY=old\n")
    values.write_text('{"TOKEN": "hidden", "KEY": "newer"}')
    async with typed() as user:
        assert "no secret" in (await user.run("secret", "list")).stderr
        files = ["--from-dotenv", dotenv, "--from-json", values]
        created = await user.run("secret", "create", "db", "KEY=a=b", *files)
        told = json.loads((await user.run("secret", "list", "--json")).stdout)
        table = (await user.run("secret", "list")).stdout
        first = user.plane.secret_box.environ(uses("db"))
        taken = await user.refused("secret", "create", "db", "X=1")
        replaced = await user.run("secret", "create", "db", "X=1", "--force", "--json")
        stored = user.plane.secret_box.environ(uses("db"))
        deleted = await user.run("secret", "delete", "db", "--yes")
        missing = await user.refused("secret", "delete", "db", "--yes")
        allowed = await user.run("secret", "delete", "db", "--yes", "--allow-missing")

    assert "✓ Secret `db` with URL, EMPTY, KEY, TOKEN. In your script:" in created.stderr
    assert '@app.function(secrets=[modal.Secret.from_name("db")])' in created.stdout
    assert 'os.getenv("URL")' in created.stdout
    assert ["db"] == [secret["name"] for secret in told]
    assert ["URL", "EMPTY", "KEY", "TOKEN"] == told[0]["keys"]
    assert ["Name", "Keys", "Created", "at"] == table.splitlines()[0].split()
    assert "URL, EMPTY, KEY, TOKEN" in table
    assert {"URL": "http://a", "EMPTY": "", "KEY": "a=b", "TOKEN": "hidden"} == first
    assert "hidden" not in table + created.stdout + created.stderr
    assert "the secret `db` exists" in taken
    assert {"name": "db", "keys": ["X"]} == json.loads(replaced.stdout)
    assert {"X": "1"} == stored
    assert "✓ Secret `db` is deleted" in deleted.stderr
    assert "db" in missing
    assert "there is no secret `db`" in allowed.stderr


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["x"], 2, "You need to specify at least one key"),
        (["x", "KEY"], 2, "`KEY` has no value: write `KEY=value`, or `KEY=-` to be asked"),
        (["x", "--from-dotenv", "none"], 1, "`none` cannot be read"),
        (["x", "--from-json", "none"], 1, "`none` cannot be read: No such file or directory"),
        (["x", "--from-json", "text"], 1, "`text` is not JSON"),
        (["x", "--from-json", "list"], 2, "must be an object whose values are strings"),
        (["x", "--from-json", "numbers"], 2, "must be an object whose values are strings"),
    ],
)
async def test_a_secret_without_values_is_refused_before_anything_is_asked(
    typed, tmp_path, words, code, says
):
    (tmp_path / "text").write_text("KEY=value")
    (tmp_path / "list").write_text('["KEY"]')
    (tmp_path / "numbers").write_text('{"KEY": 1}')
    async with typed() as user:
        done = await user.run("secret", "create", *words, code=code, cwd=tmp_path)
        listed = json.loads((await user.run("secret", "list", "--json")).stdout)

    assert says in " ".join(done.stderr.replace("│", " ").split())
    assert [] == listed


async def test_nobody_is_asked_without_a_terminal(typed):
    async with typed() as user:
        await user.run("secret", "create", "db", "X=1")
        unasked = await user.refused("secret", "delete", "db")
        listed = json.loads((await user.run("secret", "list", "--json")).stdout)

    assert "Rerun with --yes" in unasked
    assert ["db"] == [secret["name"] for secret in listed]


def test_the_values_of_a_secret_may_come_through_a_pipe(tmp_path):
    os.mkfifo(pipe := tmp_path / "pipe")
    writer = threading.Thread(target=pipe.write_text, args=("A=1\n",))
    writer.start()
    values = secret._dotenv(pipe)
    writer.join()

    assert {"A": "1"} == values
