"""The control plane is killed, and `up` is refused: endpoints that answered go on answering."""

import os
import signal
import socket

import httpx
import pytest

from tests.waiting import wait_for

APP = """
    import os
    import modal

    app = modal.App("steady")

    @app.function(min_containers=1)
    @modal.fastapi_endpoint()
    def container():
        return os.environ["MODAL_TASK_ID"]
"""


@pytest.fixture
def url(terminal, write):
    """The URL of an endpoint whose control plane has been killed."""
    url = terminal.deploy(write(APP))["container"]
    wait_for(lambda: ask(url), "an answer")
    os.kill(terminal.status()["pid"], signal.SIGKILL)
    return url


def ask(url: str) -> str:
    return httpx.get(url, timeout=20, trust_env=False).raise_for_status().json()


def damaged(terminal) -> None:
    (terminal.home / "homeport.db").rename(terminal.home / "kept.db")
    for more in ("-wal", "-shm"):
        path = terminal.home / f"homeport.db{more}"
        if path.exists():
            path.rename(terminal.home / f"kept.db{more}")
    (terminal.home / "homeport.db").write_text("no database at all, however long one looks at it")


def mended(terminal) -> None:
    for more in ("", "-wal", "-shm"):
        path = terminal.home / f"kept.db{more}"
        (terminal.home / f"homeport.db{more}").unlink(missing_ok=True)
        if path.exists():
            path.rename(terminal.home / f"homeport.db{more}")


def test_a_wrong_setting_fails_up_and_leaves_running_containers_alone(terminal, url):
    with socket.create_server(("127.0.0.1", 0)) as others:
        taken = str(others.getsockname()[1])
        mistakes = {
            "is for plain HTTP": {"HOMEPORT_API_PORT": "1", "HOMEPORT_HOST": "0.0.0.0"},
            "the API cannot listen": {"HOMEPORT_API_PORT": taken, "HOMEPORT_TOKEN": "t"},
            f"port {taken}": {"HOMEPORT_HTTP_PORT": taken},
            "an address is needed": {"HOMEPORT_HOST": "no.such.host.invalid"},
            "cannot listen on": {"HOMEPORT_HOST": "192.0.2.7"},
            "HAProxy": {"HOMEPORT_HAPROXY": "/bin/true"},
        }
        before = ask(url)
        environ = dict(terminal.environ)
        told = {}
        for text, variables in mistakes.items():
            terminal.environ = {**environ, **variables}
            done = terminal.run("up", check=False)
            told[text] = done.returncode, done.stderr
            assert before == ask(url), text
        terminal.environ = environ
        terminal.run("up")

    assert [] == [
        (text, said) for text, (code, said) in told.items() if not code or text not in said
    ]
    assert before == ask(url)


def test_a_start_that_fails_late_leaves_running_containers_alone(terminal, url):
    before = ask(url)
    damaged(terminal)
    done = terminal.run("up", check=False)
    during = ask(url)
    mended(terminal)
    terminal.run("up")

    assert done.returncode
    assert "homeport.db" in done.stderr
    assert [before] * 2 == [during, ask(url)]
