"""A server with HTTPS and tokens, and a laptop that logs in: what it may do, and what it may not."""

import stat
import subprocess

import pytest

from homeport.ingress import pairs
from tests.certificates import Authority
from tests.journeys.conftest import Terminal
from tests.ports import free_port
from tests.waiting import PATIENCE_S, wait_for

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
def server(terminal, tmp_path):
    """A server with HTTPS and an API on loopback; the URLs of the two."""
    authority = Authority()
    (tmp_path / "ca.pem").write_text(authority.text)
    for folder in ("certificates", "tls"):
        (terminal.home / folder).mkdir(parents=True)
        path = terminal.home / folder / "here.pem"
        path.write_bytes(pairs.read(authority.pem("localhost", "*.localhost")).pem)
        path.chmod(0o600)
    port = free_port()
    terminal.environ |= {
        "HOMEPORT_API_PORT": str(port),
        "HOMEPORT_TOKEN": FIRST,
        "HOMEPORT_TLS": "files",
        "HOMEPORT_HTTPS_PORT": "0",
    }
    terminal.run("up")
    secure = next((terminal.home / "run").rglob("https-port")).read_text()
    return f"https://localhost:{secure}", f"http://127.0.0.1:{port}"


def test_a_laptop_does_what_its_token_allows(terminal, server, write, tmp_path):
    url, plain = server
    made = terminal.run(
        "token", "create", "--name", "ci", "--scope", "deploy", "--user", "ada", "--expires", "90d"
    )
    deploys = made.stdout.strip().removeprefix("HOMEPORT_TOKEN=")
    looks = terminal.json("token", "create", "--scope", "read")["secret"]
    laptop = Terminal(tmp_path / "laptop")

    def told(*words):
        done = laptop.run(*words, check=False)
        return done.returncode, done.stderr

    def login(token, *more):
        words = ("login", url, "--token-stdin", "--name", "here", *more)
        done = subprocess.run(
            laptop._argv(words),
            env=laptop.environ,
            input=token,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        return done.returncode, done.stderr

    # logging in
    ca = ("--ca", tmp_path / "ca.pem")
    assert "is not from a CA that is trusted here" in login(deploys)[1]
    assert "the token is wrong" in login(f"{deploys}x", *ca)[1]
    assert not (laptop.home / "profiles.json").exists()
    code, text = login(deploys, *ca)
    assert (0, True) == (code, f"Logged in to {url} as ada" in text), text
    assert 0o600 == stat.S_IMODE((laptop.home / "profiles.json").stat().st_mode)
    assert [("local", False), ("here", True)] == [
        (each["name"], each["current"]) for each in laptop.json("profile", "list")
    ]

    # what the token allows: streams, uploads and WebSockets pass
    assert "hello v1" in laptop.run("deploy", write(HELLO)).stdout
    assert "ada" in laptop.run("token", "info").stdout
    shown = laptop.run("shell", "hello::hello", "--cmd", "echo from-inside")
    assert "from-inside" in shown.stdout

    # what it does not
    for words in (("secret", "list"), ("token", "list"), ("down", "-y"), ("image", "prune", "-y")):
        code, text = told(*words)
        assert (1, True) == (code, "needs a token with the scope" in text), (words, text)
    code, text = told("down")
    assert (1, True) == (code, "Aborted" in text), text
    assert "hello" in laptop.run("app", "list").stdout

    # another token, by the environment and by another profile
    laptop.environ |= {"HOMEPORT_SERVER": plain, "HOMEPORT_TOKEN": looks}
    assert "hello" in laptop.run("app", "list").stdout
    assert "needs a token with the scope `deploy`" in told("app", "stop", "hello", "-y")[1]
    assert "ada" in laptop.run("--profile", "here", "token", "info").stdout
    del laptop.environ["HOMEPORT_SERVER"], laptop.environ["HOMEPORT_TOKEN"]

    # a laptop that disappears
    serving = laptop.start("serve", write(HELLO.replace('"hello"', '"draft"', 1)))
    serving.wait_for("Serving")
    assert {"hello", "draft"} == {app["name"] for app in terminal.json("app", "list")}
    serving.process.kill()
    serving.end()
    serving.process.stdout.close()
    wait_for(
        lambda: ["hello"] == [a["name"] for a in terminal.json("app", "list")], "the session ends"
    )

    # who did what, by the server's own user: no secret, and no scope that the laptop lacks
    assert "needs a token with the scope `secrets`" in told("audit")[1]
    entries = terminal.json("audit", "--since", "1h")
    done = [(e["user"], e["action"], e["result"], e["target"]) for e in entries]
    for expected in (
        ("ada", "app deploy", "ok", "hello v1"),
        ("ada", "shutdown", "Forbidden", ""),
        ("ada", "image prune", "Forbidden", ""),
        ("ada", "app serve", "ok", "draft"),
    ):
        assert expected in done, (expected, done)
    assert ("", "app stop", "Forbidden", "hello") in done  # the token `looks` has no user
    programs = [e["target"] for e in entries if e["action"] == "container exec"]
    assert [True] == [each.startswith("ta-") and "from-inside" not in each for each in programs]
    wrong = terminal.json("audit", "--user", "stranger")[0]
    assert ("login refused", "Unauthorized", "127.0.0.1") == (
        wrong["action"],
        wrong["result"],
        wrong["source"],
    )
    assert ["hello"] == [e["app"] for e in terminal.json("audit", "--app", "hello", "-n", "1")]
    assert [] == terminal.json("audit", "-e", "staging")
    assert "login refused" in terminal.run("audit").stdout

    # from the server
    (ci, _) = terminal.json("token", "list")
    assert ("ci", "ada", ["deploy"], True) == (
        ci["name"],
        ci["user"],
        ci["scopes"],
        ci["used_at"] is not None,
    )
    assert ["ada"] == [each["user"] for each in terminal.json("user", "list")]
    terminal.run("user", "delete", "ada", "-y")
    assert "the token is wrong, has expired or was deleted" in told("status")[1]
    assert "forgotten" in told("logout")[1]
    assert "no server answers" in told("status")[1]
    log = (terminal.home / "server.log").read_text()
    told_of = terminal.run("audit", "--json").stdout
    assert [] == [each for each in (FIRST, deploys, looks) if each in log + told_of]
