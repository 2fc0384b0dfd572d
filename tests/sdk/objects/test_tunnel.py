"""`modal.forward`: its arguments, its object, and its context."""

import pytest

import homeport as modal
from homeport.sdk import context
from homeport.sdk.exception import InvalidError, UnimplementedError
from homeport.sdk.objects import exchange, tunnel


class Opened:
    """The runner's tunnels, as `forward` uses them."""

    def __init__(self) -> None:
        self.log: list[tuple[str, object]] = []

    def open(self, port):
        self.log.append(("open", port))
        return "aa"

    def serve(self, name):
        self.log.append(("serve", name))

    def close(self, name):
        self.log.append(("close", name))


@pytest.fixture
def opened(monkeypatch):
    """A container whose server gives a tunnel a URL."""
    opened = Opened()

    def ask(asked):
        opened.log.append((asked.method, asked.target))
        return b'{"scheme": "http", "host": "tunnel-aa.localhost", "port": 4663}'

    async def ask_async(asked):
        return ask(asked)

    monkeypatch.setattr(context, "_urls", {})
    monkeypatch.setattr(context, "tunnels", lambda: opened)
    monkeypatch.setattr(exchange, "_ask", ask)
    monkeypatch.setattr(exchange, "_ask_async", ask_async)
    return opened


def test_a_tunnel_lives_as_long_as_its_context(opened):
    with modal.forward(8000) as tunnel:
        assert "http://tunnel-aa.localhost:4663" == tunnel.url
        assert ("tunnel-aa.localhost", 4663) == (tunnel.host, tunnel.port)
        assert [("open", 8000), ("GET", "/v1/tunnels/aa"), ("serve", "aa")] == opened.log

    assert [("close", "aa"), ("DELETE", "/v1/tunnels/aa")] == opened.log[3:]


async def test_a_tunnel_works_with_async_with(opened):
    async with modal.forward(8000) as tunnel:
        assert "http://tunnel-aa.localhost:4663" == tunnel.url

    assert [("close", "aa"), ("DELETE", "/v1/tunnels/aa")] == opened.log[-2:]


def test_a_tunnel_that_gets_no_url_is_closed(opened, monkeypatch):
    def refuse(_asked):
        raise InvalidError("no more")

    monkeypatch.setattr(exchange, "_ask", refuse)
    with pytest.raises(InvalidError, match="no more"), modal.forward(8000):
        pass

    assert [("open", 8000), ("close", "aa")] == opened.log


async def test_a_tunnel_that_gets_no_url_is_closed_on_a_loop_too(opened, monkeypatch):
    async def refuse(_asked):
        raise InvalidError("no more")

    monkeypatch.setattr(exchange, "_ask_async", refuse)
    with pytest.raises(InvalidError, match="no more"):
        async with modal.forward(8000):
            pass

    assert [("open", 8000), ("close", "aa")] == opened.log


def test_wrong_arguments_say_so(opened):
    for port in (0, 65536, "8000", True):
        with pytest.raises(InvalidError, match="from 1 to 65535"):
            modal.forward(port)
    with pytest.raises(InvalidError, match="exclude each other"):
        modal.forward(8000, unencrypted=True, h2_enabled=True)
    with pytest.raises(UnimplementedError, match="no raw TCP"):
        modal.forward(22, unencrypted=True)
    with pytest.raises(UnimplementedError, match=r"HTTP/1\.1"):
        modal.forward(22, h2_enabled=True)
    with modal.forward(8000) as tunnel:
        for which in ("tcp_socket", "tls_socket"):
            with pytest.raises(InvalidError, match="http://tunnel-aa"):
                getattr(tunnel, which)


def test_outside_a_container_and_in_its_programs_it_is_refused(monkeypatch):
    with pytest.raises(InvalidError, match="outside a container"):
        modal.forward(8000)
    monkeypatch.setenv("MODAL_IS_REMOTE", "1")
    with pytest.raises(InvalidError, match="the container's own process"):
        modal.forward(8000)


def test_a_url_on_the_usual_port_does_not_name_it():
    plain = tunnel.Tunnel(host="a.example", port=80)
    secure = tunnel.Tunnel(host="a.example", port=443, _scheme="https")

    assert ("http://a.example", "https://a.example") == (plain.url, secure.url)
    assert ("a.example", 443) == secure.tls_socket
