"""Where a homeport may live, and where it may listen."""

import socket

import pytest

HELLO = """
    import modal

    app = modal.App("hello")

    @app.function()
    @modal.fastapi_endpoint()
    def hello():
        return "one"
"""


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no ::1")
def test_ipv6_has_brackets_in_every_url(terminal, write, visitor):
    terminal.environ["HOMEPORT_HOST"] = "::1"
    terminal.environ["HOMEPORT_API_PORT"] = "0"
    terminal.environ["HOMEPORT_TOKEN"] = "word"
    urls = terminal.deploy(write(HELLO))

    assert urls["hello"].startswith("http://[::1]:")
    assert '"one"' == visitor.get(urls["hello"]).text
    assert "on [::1]:" in terminal.run("status").stdout
    assert "on [::1]:" in terminal.run("doctor").stdout


def test_what_cannot_be_applied_to_a_running_server_is_said(terminal):
    assert "homeport is up: 127.0.0.1:" in terminal.run("up").stdout
    told = terminal.run("up", "--host", "0.0.0.0")
    assert "has another host, 127.0.0.1, and keeps it: 0.0.0.0" in told.stderr
    assert "homeport down" in told.stderr
    terminal.environ["HOMEPORT_RATE_LIMIT"] = "7"
    assert "rate-limit" in terminal.run("up").stderr
    del terminal.environ["HOMEPORT_RATE_LIMIT"]

    assert "" == terminal.run("up", "--host", "localhost").stderr
