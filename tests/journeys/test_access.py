"""A server with tokens, and a laptop that has one: what it may do, and what it may not."""

import socket

import pytest

from tests.journeys.conftest import Terminal

HELLO = """
    import modal

    app = modal.App("hello")

    @app.function()
    @modal.fastapi_endpoint()
    def hello():
        return "hello"
"""
FIRST = "the-first-token-of-this-server"


@pytest.fixture
def server(terminal):
    """A server whose API listens on loopback; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    terminal.environ |= {"HOMEPORT_API_PORT": str(port), "HOMEPORT_TOKEN": FIRST}
    terminal.run("up")
    return f"http://127.0.0.1:{port}"


def test_a_laptop_does_what_its_token_allows(terminal, server, write, tmp_path):
    made = terminal.run(
        "token", "create", "--name", "ci", "--scope", "deploy", "--user", "ada", "--expires", "90d"
    )
    deploys = made.stdout.strip().removeprefix("HOMEPORT_TOKEN=")
    looks = terminal.json("token", "create", "--scope", "read")["secret"]
    laptop = Terminal(tmp_path / "laptop")
    laptop.environ |= {"HOMEPORT_SERVER": server, "HOMEPORT_TOKEN": deploys}

    def told(*words):
        done = laptop.run(*words, check=False)
        return done.returncode, done.stderr

    assert "hello v1" in laptop.run("deploy", write(HELLO)).stdout
    assert "ada" in laptop.run("token", "info").stdout
    for words in (("secret", "list"), ("token", "list"), ("down", "-y"), ("image", "prune", "-y")):
        code, text = told(*words)
        assert (1, True) == (code, "needs a token with the scope" in text), (words, text)
    laptop.environ["HOMEPORT_TOKEN"] = looks
    assert "hello" in laptop.run("app", "list").stdout
    assert "needs a token with the scope `deploy`" in told("app", "stop", "hello", "-y")[1]

    # from the server, by its own token and by its socket
    (ci, _) = terminal.json("token", "list")
    assert ("ci", "ada", ["deploy"], True) == (
        ci["name"],
        ci["user"],
        ci["scopes"],
        ci["used_at"] is not None,
    )
    assert ["ada"] == [each["user"] for each in terminal.json("user", "list")]
    terminal.run("user", "delete", "ada", "-y")
    laptop.environ["HOMEPORT_TOKEN"] = deploys
    assert "the token is wrong, has expired or was deleted" in told("status")[1]
    laptop.environ["HOMEPORT_TOKEN"] = FIRST
    assert "hello" in laptop.run("app", "list").stdout
    log = (terminal.home / "server.log").read_text()
    assert [] == [each for each in (FIRST, deploys, looks) if each in log]
