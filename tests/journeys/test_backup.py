"""`homeport backup` and `homeport restore`, while a server runs."""

import httpx

from tests.waiting import wait_for

SCRIPT = """
import os
import homeport
app = homeport.App("keep")
@app.function(secrets=[homeport.Secret.from_name("auth")])
@homeport.fastapi_endpoint()
def hello():
    return os.environ["TOKEN"]
"""


def get(url: str) -> str:
    return httpx.get(url, timeout=60).text


def url_of(terminal) -> str:
    (app,) = [app for app in terminal.json("status")["apps"] if app["name"] == "keep"]
    return app["endpoints"][0]["local_url"] + "/"


def test_a_backup_is_made_and_restored_while_the_server_runs(terminal, tmp_path):
    script = tmp_path / "keep.py"
    script.write_text(SCRIPT)
    file = tmp_path / "home.backup"
    terminal.run("up")
    terminal.run("secret", "create", "auth", "TOKEN=first")
    terminal.run("deploy", script)
    before = get(url_of(terminal))
    pid = terminal.json("status")["pid"]
    secret = tmp_path / "passphrase"
    secret.write_text("correct horse battery\n")
    with_it = ("--passphrase-file", secret)
    made = terminal.run("backup", file, *with_it)
    again = terminal.run("backup", file, *with_it, check=False)
    silent = terminal.run("restore", file, check=False)
    terminal.run("secret", "create", "auth", "TOKEN=second", "--force")
    terminal.run("deploy", script)
    changed = get(url_of(terminal))
    refused = terminal.run("restore", file, *with_it, check=False)
    same = terminal.json("status")["pid"]
    terminal.run("restore", file, "--force", *with_it)
    restored = wait_for(lambda: get(url_of(terminal)), "the app")
    found = terminal.json("app", "history", "keep")

    assert ('"first"', '"second"', '"first"') == (before, changed, restored)
    assert f"1 app and 1 secret are in {file}" in made.stderr
    assert (1, True) == (silent.returncode, "a passphrase is needed" in silent.stderr)
    assert (1, True) == (again.returncode, "exists" in again.stderr)
    assert (1, True) == (refused.returncode, "nothing has been changed" in refused.stderr)
    assert pid == same
    assert 1 == len(found)

    file.write_bytes(file.read_bytes()[:1000])
    spoiled = terminal.run("restore", file, "--force", *with_it, check=False)

    assert (1, True) == (spoiled.returncode, "is damaged" in spoiled.stderr)
    assert '"first"' == get(url_of(terminal))


def test_a_home_that_never_had_a_server_can_be_restored(terminal, tmp_path):
    script = tmp_path / "keep.py"
    script.write_text(SCRIPT)
    nothing = terminal.run("backup", tmp_path / "x", "--no-passphrase", check=False)
    terminal.run("secret", "create", "auth", "TOKEN=first")
    terminal.run("deploy", script)
    terminal.run("down")
    terminal.run("backup", tmp_path / "home.backup", "--no-passphrase")
    terminal.environ["HOMEPORT_HOME"] = str(tmp_path / "other")
    terminal.environ.pop("HOMEPORT_DATABASE", None)
    terminal.run("restore", "--yes", tmp_path / "home.backup")
    terminal.run("up")
    answer = get(url_of(terminal))
    terminal.run("down")

    assert "nothing in" in nothing.stderr
    assert '"first"' == answer
