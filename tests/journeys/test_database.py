"""The database goes while the server runs: what is deployed continues to serve, changes are refused, and nothing is half-done."""

import signal

import httpx
import pytest

from tests.postgres import PASSWORD, running
from tests.waiting import wait_for

SCRIPT = """
import os
import homeport
app = homeport.App("keep")
@app.function(secrets=[homeport.Secret.from_name("auth")], scaledown_window=2)
@homeport.fastapi_endpoint()
def hello():
    return [os.environ["TOKEN"], os.environ["HOMEPORT_TASK_ID"], VERSION]
VERSION = 1
"""


class File:
    """The database in the home."""

    name = "homeport.db"

    def __init__(self, terminal) -> None:
        self.path = terminal.home / "homeport.db"
        self.away = terminal.home / "away.db"

    def go(self) -> None:
        self.path.rename(self.away)

    def come(self) -> None:
        self.away.rename(self.path)


class Server:
    """A PostgreSQL."""

    name = "(PostgreSQL)"

    def __init__(self, server, terminal) -> None:
        terminal.environ["HOMEPORT_DATABASE"] = server.url_of(terminal.home)
        self.server = server

    def go(self) -> None:
        self.server.stop(signal.SIGQUIT)

    def come(self) -> None:
        self.server.start()


@pytest.fixture(params=["SQLite", "PostgreSQL"])
def database(request, terminal):
    if request.param == "SQLite":
        terminal.environ.pop("HOMEPORT_DATABASE", None)
        yield File(terminal)
        return
    with running() as server:
        yield Server(server, terminal)


def test_deployed_apps_continue_without_the_database(terminal, tmp_path, database):
    script = tmp_path / "keep.py"
    script.write_text(SCRIPT)
    terminal.run("secret", "create", "auth", "TOKEN=first")
    terminal.run("deploy", script)
    (app,) = terminal.json("status")["apps"]
    url = app["endpoints"][0]["local_url"] + "/"
    first = httpx.get(url, timeout=60).json()

    database.go()
    wait_for(lambda: not terminal.containers(), "the container to scale down")
    cold = httpx.get(url, timeout=60).json()
    script.write_text(SCRIPT.replace("VERSION = 1", "VERSION = 2"))
    refused = [
        terminal.run(*words, check=False)
        for words in (
            ("deploy", script),
            ("secret", "create", "auth", "TOKEN=second", "--force"),
            ("app", "stop", "keep", "-y"),
            ("app", "rollback", "keep"),
        )
    ]
    status, doctor = terminal.run("status"), terminal.run("doctor", check=False)
    during = httpx.get(url, timeout=60).json()

    assert first[0] == cold[0] == during[0] == "first"
    assert first[1] != cold[1]
    assert 1 == during[2]
    for done in refused:
        assert 1 == done.returncode, done.stderr
        assert database.name in done.stderr, done.stderr
        assert "bug of homeport" not in done.stderr
    assert "keep" in status.stdout
    assert "what is deployed continues to serve, and changes are refused" in status.stderr

    database.come()
    terminal.run("deploy", script)
    after = httpx.get(url, timeout=60).json()
    log = (terminal.home / "server.log").read_text()
    told = f"{status.stdout}{status.stderr}{doctor.stdout}{doctor.stderr}{log}"

    assert ["first", 2] == [after[0], after[2]]
    assert [2, 1] == [each["version"] for each in terminal.json("app", "history", "keep")]
    assert PASSWORD not in told
    assert "s3cret" not in told + terminal.run("status", "--json").stdout
    assert "Traceback" not in log
