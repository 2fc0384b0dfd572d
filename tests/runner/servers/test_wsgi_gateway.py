"""What a WSGI app gets beside the request: its input, the visitor's view of the URL, and its socket."""

import io
import socket

import pytest

from homeport.runner.servers import wsgi_gateway as gateway
from homeport.runner.servers.wsgi_gateway import BodyTooLarge


class Stream(io.BytesIO):
    """Refuses a negative size, as cheroot's reader of chunks does."""

    def read(self, size=None):
        assert size is None or size >= 0
        return super().read(size)

    def readline(self, size=None):
        assert size is None or size >= 0
        return super().readline(size)


@pytest.mark.parametrize("size", [None, -1, -7])
def test_a_size_of_none_or_less_than_nothing_means_all(size):
    assert b"one\ntwo" == gateway._Counted(Stream(b"one\ntwo")).read(size)
    assert b"one\n" == gateway._Counted(Stream(b"one\ntwo")).readline(size)


def test_an_input_is_read_in_parts_and_by_lines():
    counted = gateway._Counted(Stream(b"one\ntwo\nthree"))

    assert (b"", b"on", b"e\n", b"tw") == (
        counted.read(0),
        counted.read(2),
        counted.readline(),
        counted.readline(2),
    )
    assert [b"o\n", b"three"] == counted.readlines()
    assert [] == list(counted)


@pytest.mark.parametrize("how", ["read", "readline", "readlines"])
def test_an_input_above_the_limit_is_refused_whichever_way_it_is_read(monkeypatch, how):
    monkeypatch.setattr(gateway, "MAX_BODY_BYTES", 8)
    counted = gateway._Counted(Stream(b"x" * 8))
    assert b"x" * 8 == counted.read()
    assert not counted.exceeded

    counted = gateway._Counted(Stream(b"x" * 9))
    with pytest.raises(BodyTooLarge):
        getattr(counted, how)()
    assert counted.exceeded


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ("", "http", "localhost", "80")),
        ({"HTTP_HOST": "a.b"}, ("", "http", "a.b", "80")),
        ({"HTTP_HOST": "a.b", "HTTP_X_FORWARDED_PROTO": "https"}, ("", "https", "a.b", "443")),
        ({"HTTP_HOST": "a.b:81"}, ("", "http", "a.b", "81")),
        ({"HTTP_HOST": "[::1]"}, ("", "http", "[::1]", "80")),
        ({"HTTP_HOST": "[::1]:82"}, ("", "http", "[::1]", "82")),
        ({"HTTP_X_FORWARDED_FOR": "9.9.9.9"}, ("9.9.9.9", "http", "localhost", "80")),
    ],
)
def test_an_app_sees_the_url_as_the_visitor_wrote_it(fields, expected):
    environ = {**fields}
    gateway._see_from_outside(environ)

    assert expected == (
        *(environ["REMOTE_ADDR"], environ["wsgi.url_scheme"]),
        *(environ["SERVER_NAME"], environ["SERVER_PORT"]),
    )


def test_only_a_websocket_gets_the_socket_and_its_use_is_noticed():
    here, there = socket.socketpair()
    with here, there:
        plain, websocket = {}, {"HTTP_UPGRADE": "WebSocket"}
        assert gateway._offer_socket(plain, here) is None
        assert not gateway._was_taken(plain)
        with gateway._offer_socket(websocket, here) as copy:
            before = gateway._was_taken(websocket)
            websocket[gateway.SOCKET].sendall(b"x")

            assert copy is websocket[gateway.SOCKET] is websocket["gunicorn.socket"]
            assert (False, True) == (before, gateway._was_taken(websocket))
            assert b"x" == there.recv(1)
            copy.taken = False
            websocket[gateway.SOCKET].send(b"y")
            assert gateway._was_taken(websocket)
