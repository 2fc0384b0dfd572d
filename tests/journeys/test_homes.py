"""In which directories homeport works, and on which addresses it listens."""

import socket

import psutil
import pytest

from homeport.settings import load
from tests.journeys.conftest import Terminal

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


ODD = """it's "a" home, #1 (100%) [of] $HOME;*? & \\n ä/""" + "very " * 20
IMAGES = """
    def fetched():
        open("weights.txt", "w").write("heavy")

    image = (
        SMALL
        .uv_pip_install("fastapi")
        .pip_install("tabulate")
        .run_commands("tabulate --help > help.txt")
        .run_function(fetched)
    )
    @app.function(image=image)
    @modal.fastapi_endpoint()
    def built():
        import subprocess
        told = subprocess.run(["tabulate", "--help"], capture_output=True, text=True).stdout
        return [open("weights.txt").read(), open("help.txt").read() == told != ""]

"""
#: Without cells there are no root file systems.
PACKAGES = """
    @app.function(image=modal.Image.debian_slim().uv_pip_install("fastapi", "tabulate"))
    @modal.fastapi_endpoint()
    def built():
        import tabulate
        return tabulate.tabulate([["x"]])
"""
EVERYTHING = """
    import modal

    app = modal.App("odd")

    @app.function(max_containers=1)
    @modal.wsgi_app()
    def plain():
        from flask import Flask
        web = Flask("x")
        web.route("/")(lambda: "plain")
        return web

    @app.cls(enable_memory_snapshot=True)
    class Snapped:
        @modal.enter(snap=True)
        def enter(self):
            self.said = "snapped"

        @modal.fastapi_endpoint()
        def word(self):
            return self.said
"""


@pytest.mark.parametrize("isolation", ["auto", pytest.param("off", marks=pytest.mark.soak)])
def test_a_home_may_have_any_name(home, write, visitor, isolation, small):
    terminal = Terminal(home / ODD)
    terminal.environ["HOMEPORT_ISOLATION"] = isolation
    try:
        images = IMAGES.replace("SMALL", small) if isolation == "auto" else PACKAGES
        urls = terminal.deploy(write(EVERYTHING + images))
        if isolation == "auto":
            assert ["heavy", True] == visitor.get(urls["built"]).json()
        assert "plain" == visitor.get(urls["plain"]).text
        for _ in range(2):
            assert "snapped" == visitor.get(urls["Snapped.word"]).json()
            for container in terminal.json("container", "list"):
                terminal.run("container", "stop", container["id"], "--yes")
        terminal.log("odd", "plain")
        assert str(home / ODD).rstrip("/") == terminal.status()["home"]
        assert 0 == terminal.run("doctor").returncode
        assert "plain" == visitor.get(urls["plain"]).text
        psutil.Process(terminal.status()["pid"]).kill()
        assert "plain" == visitor.get(urls["plain"]).text
        terminal.run("up")  # takes over

        if isolation == "auto":
            assert ["heavy", True] == visitor.get(urls["built"]).json()
        else:
            assert visitor.get(urls["built"]).json()
    finally:
        terminal.close()
    assert not load(terminal.environ).socket_dir.exists()


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


def test_up_names_the_settings_that_a_running_server_does_not_take(terminal):
    assert "homeport is up: 127.0.0.1:" in terminal.run("up").stdout
    told = terminal.run("up", "--host", "0.0.0.0")
    assert "has another host, 127.0.0.1, and keeps it: 0.0.0.0" in told.stderr
    assert "homeport down" in told.stderr
    terminal.environ["HOMEPORT_RATE_LIMIT"] = "7"
    assert "rate-limit" in terminal.run("up").stderr
    del terminal.environ["HOMEPORT_RATE_LIMIT"]

    assert "" == terminal.run("up", "--host", "localhost").stderr
