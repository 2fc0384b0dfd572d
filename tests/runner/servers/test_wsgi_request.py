"""The environ of a WSGI request's head."""

import io
from types import SimpleNamespace

import pytest

from homeport.runner.servers import wsgi_request
from homeport.runner.servers.wsgi_request import Names, Request


def head(*fields: bytes, line: bytes = b"GET / HTTP/1.1") -> Request:
    """Return a request whose head was read."""
    file = io.BytesIO(b"\r\n".join([line, *fields, b"", b""]))
    request = Request.__new__(Request)
    request.conn = SimpleNamespace(rfile=file)
    request.inheaders = {}
    assert request.read_request_line()
    request.header_reader(SimpleNamespace(rfile=file), request.inheaders)
    return request


def test_fields_have_the_names_of_pep_3333_and_cheroot_gets_those_that_it_asks_for():
    request = head(
        b"host: a.b",
        b"Content-Type: text/plain",
        b"content-length: 3",
        b"CONNECTION:close",
        b"x-y:  z ",
    )

    environ = request.environ
    assert ("a.b", "text/plain", "3") == tuple(
        environ[name] for name in ("HTTP_HOST", "CONTENT_TYPE", "CONTENT_LENGTH")
    )
    assert "z" == environ["HTTP_X_Y"]
    assert not {"HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"} & set(environ)
    assert {b"Content-Length": b"3", b"Connection": b"close"} == request.inheaders


def test_repeated_fields_are_joined_and_those_with_an_underscore_are_dropped():
    environ = head(
        *(b"accept: a", b"Accept: b", b"cookie: c=1", b"cookie: d=2"),
        *(b"x_forwarded_for: 1.2.3.4", b"content-length: 1", b"content-length: 2"),
    ).environ

    assert ("a,b", "c=1; d=2", "1,2") == tuple(
        environ[name] for name in ("HTTP_ACCEPT", "HTTP_COOKIE", "CONTENT_LENGTH")
    )
    assert "HTTP_X_FORWARDED_FOR" not in environ


def test_a_field_cannot_replace_what_the_request_line_says():
    environ = head(b"request-method: POST", b"path-info: /b", b"wsgi.version: 9").environ

    assert ("GET", "/", (1, 0)) == tuple(
        environ[name] for name in ("REQUEST_METHOD", "PATH_INFO", "wsgi.version")
    )


@pytest.mark.parametrize("field", [b"no colon", b" : x", b"a : x", b": x", b"\ta: x"])
def test_a_field_that_is_not_http_is_an_error_each_time(field):
    for _ in range(2):
        with pytest.raises(ValueError, match="cannot be read"):
            head(field)


@pytest.mark.parametrize(
    ("line", "path", "query", "uri"),
    [
        (b"GET /a%2Fb//c?x=%20 HTTP/1.1", "/a/b//c", "x=%20", "/a%2Fb//c?x=%20"),
        (b"GET http://h/d?e HTTP/1.0", "/d", "e", "http://h/d?e"),
        (b"OPTIONS * HTTP/1.1", "*", "", "*"),
        (b"GET /%C3%A9 HTTP/1.1", "/\u00c3\u00a9", "", "/%C3%A9"),
    ],
)
def test_the_path_is_decoded_once_and_the_uri_is_as_it_came(line, path, query, uri):
    environ = head(line=line).environ

    assert (path, query, uri, uri) == tuple(
        environ[name] for name in ("PATH_INFO", "QUERY_STRING", "REQUEST_URI", "RAW_URI")
    )


def test_names_that_visitors_choose_take_a_limited_room():
    names = Names()
    for number in range(2 * Names.MOST):
        assert f"HTTP_X{number}" == names[b"x%d" % number][0]
    long = b"y" * (Names.LONGEST + 1)

    assert Names.MOST == len(names)
    assert ("HTTP_" + long.decode().upper(), b"") == Names()[long]
    names = Names()
    assert names[long]
    assert 0 == len(names)


def test_no_request_changes_what_all_requests_share():
    before = dict(wsgi_request.SAME)
    head().environ["SCRIPT_NAME"] = "/x"

    assert before == wsgi_request.SAME
    assert "" == head().environ["SCRIPT_NAME"]
