"""From a deploy to HTTPS with a real CA: orders, custom domains, a renewal under load, and a kill in an order."""

import http.client
import os
import signal
import socket
import ssl
import threading

from tests.control.certificates import authority
from tests.ports import free_port
from tests.waiting import PATIENCE_S, wait_for

SCRIPT = """
    import modal
    app = modal.App("hello")
    @app.function()
    @modal.fastapi_endpoint(custom_domains=["own.example.test"])
    def f():
        return "hi"
"""
HOST = "ada--hello-f.apps.example.test"


class Visitor:
    """Asks over TLS, and trusts the CA alone."""

    def __init__(self, port: int, roots: str) -> None:
        self._port = port
        self._context = ssl.create_default_context(cadata=roots)

    def ask(self, host: str) -> tuple[int, str]:
        """Return the status, and the serial number of the certificate."""
        raw = socket.create_connection(("127.0.0.1", self._port), timeout=PATIENCE_S)
        with self._context.wrap_socket(raw, server_hostname=host) as tls:
            serial = tls.getpeercert()["serialNumber"]
            tls.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            response = http.client.HTTPResponse(tls)
            response.begin()
            response.read()
            return response.status, serial.lstrip("0").lower()

    def answers(self, host: str) -> tuple[int, str] | None:
        """Do the same; None while there is no certificate."""
        try:
            return self.ask(host)
        except (OSError, http.client.HTTPException):
            return None


def state(terminal, host: str) -> dict:
    listed = terminal.ask("/v1/certificates")["certificates"]
    return next((each for each in listed if each["host"] == host), {"state": ""})


def renew_under_load(terminal, visitor) -> None:
    """A renewal changes the serial number, and no request fails."""
    before, failures, over = visitor.ask(HOST)[1], [], threading.Event()

    def visit() -> None:
        while not over.is_set():
            try:
                assert 200 == visitor.ask(HOST)[0]
            except Exception as error:
                failures.append(error)

    visiting = threading.Thread(target=visit)
    visiting.start()
    try:
        terminal.run("certificate", "renew", HOST)
        wait_for(lambda: visitor.ask(HOST)[1] != before, "another serial number")
    finally:
        over.set()
        visiting.join()
    assert [] == failures


def kill_in_an_order(terminal, visitor) -> None:
    """HTTPS goes on while no server runs, and the next server ends the order."""
    wait_for(lambda: state(terminal, HOST)["state"] == "valid", "the end of the order")
    kept = visitor.ask(HOST)[1]
    terminal.run("domain", "add", "late.example.test", "hello")
    os.kill(terminal.status()["pid"], signal.SIGKILL)
    assert (200, kept) == visitor.ask(HOST)
    terminal.run("up")
    assert 200 == wait_for(lambda: visitor.answers("late.example.test"), "HTTPS")[0]
    assert (200, kept) == visitor.ask(HOST)
    orders = terminal.home / "acme" / "orders"
    wait_for(lambda: not list(orders.iterdir()), "the end of the order's directory")


def test_a_deploy_answers_by_https_through_renewals_kills_and_restarts(
    terminal, write, tmp_path_factory
):
    http_port, https_port = free_port(), free_port()
    with authority.running(tmp_path_factory.mktemp("ca"), http_port) as ca:
        terminal.environ |= {
            "HOMEPORT_TLS": "acme",
            "HOMEPORT_HTTP_PORT": str(http_port),
            "HOMEPORT_HTTPS_PORT": str(https_port),
            "HOMEPORT_DOMAIN": "apps.example.test",
            "HOMEPORT_EMAIL": "ops@example.test",
            "HOMEPORT_ACME_DIRECTORY": ca.directory,
            "HOMEPORT_ACME_CA": str(ca.bundle),
            "HOMEPORT_DNS_RESOLVER": f"127.0.0.1:{ca.dns_port}",
            "HOMEPORT_PUBLIC_ADDRESSES": "127.0.0.1",
        }
        visitor = Visitor(https_port, ca.roots())
        script = write(SCRIPT)

        # a deploy shows the domain, and its certificates come in the background
        shown = terminal.run("deploy", script)
        assert f"https://own.example.test:{https_port}" in shown.stdout
        for host in (HOST, "own.example.test"):
            assert 200 == wait_for(lambda host=host: visitor.answers(host), "HTTPS")[0]
        assert "here" in terminal.run("domain", "list").stdout
        assert HOST in terminal.run("certificate", "list").stdout

        # a domain that is attached later stays over a redeploy
        terminal.run("domain", "add", "shop.example.test", "hello")
        assert 200 == wait_for(lambda: visitor.answers("shop.example.test"), "HTTPS")[0]
        missing = terminal.run("domain", "add", "shop.elsewhere.test", "hello")
        assert "elsewhere.test" in missing.stderr

        renew_under_load(terminal, visitor)
        kill_in_an_order(terminal, visitor)

        terminal.run("domain", "remove", "shop.example.test", "--yes")
        domains = [each["domain"] for each in terminal.json("domain", "list")]
        assert "shop.example.test" not in domains
        assert "late.example.test" in domains
