"""Reads a WSGI request like gunicorn, where cheroot differs, and makes the `environ` of its head.

HAProxy has checked the head already. `environ` has the whole path, decoded once, with `//` and `%2F` (and
undecoded in `RAW_URI`). Repeated fields are joined with a comma, cookies with `; ` (RFC 9110, 5.3; RFC 9113,
8.2.3). Fields with an underscore in their name are dropped: in `environ` they would look like the
ingress's own fields.
"""

import sys
import urllib.parse
from typing import Any

from cheroot.server import HTTPRequest

from homeport.runner.servers.answer import AS_APP, INSTEAD, TOO_EARLY

MAX_LINE_BYTES = 64 * 1024  # twice HAProxy's limit for a whole head
CRLF = b"\r\n"
PROTOCOLS = {b"HTTP/1.1": "HTTP/1.1", b"HTTP/1.0": "HTTP/1.0"}
SEPARATORS = {"HTTP_COOKIE": "; "}
#: The fields that cheroot asks for, as it writes them.
CHEROOTS = (b"Content-Length", b"Transfer-Encoding", b"Connection", b"Expect")
UNPREFIXED = ("CONTENT_LENGTH", "CONTENT_TYPE")  # in `environ` (PEP 3333)
#: The part of `environ` that is the same for all requests.
SAME = {
    "ACTUAL_SERVER_PROTOCOL": "HTTP/1.1",
    "SCRIPT_NAME": "",
    "SERVER_SOFTWARE": "homeport",
    "wsgi.version": (1, 0),
    "wsgi.multithread": True,
    "wsgi.multiprocess": False,
    "wsgi.run_once": False,
}


class Names(dict[bytes, tuple[str, bytes]]):
    """A field's name -> its name in `environ`, empty if the field is dropped, and its name for cheroot, or nothing.

    Keeps the names that it has seen, so that only the first request pays for a name. Visitors choose names, so it
    keeps a limited number of short ones.
    """

    MOST, LONGEST = 1000, 64

    def __missing__(self, name: bytes) -> tuple[str, bytes]:
        """Make the two names; `ValueError` if the name is not HTTP."""
        if name.strip() != name or not name:
            raise ValueError("a field of the head cannot be read")
        names = ("", b"") if b"_" in name else self._names(name)
        if len(self) < self.MOST and len(name) <= self.LONGEST:
            self[name] = names
        return names

    def _names(self, name: bytes) -> tuple[str, bytes]:
        title = name.title()
        key = name.decode("latin-1").upper().replace("-", "_")
        return key if key in UNPREFIXED else f"HTTP_{key}", title if title in CHEROOTS else b""


_names = Names()


class Request(HTTPRequest):
    """One request."""

    environ: dict[str, Any]

    def read_request_line(self) -> bool:
        """Read the request line; answer a line that is not HTTP. Return whether there is a request."""
        line = self.conn.rfile.readline(MAX_LINE_BYTES)
        self.started_request = True
        if not line:
            return False
        parts = line.split(b" ")
        protocol = PROTOCOLS.get(parts[-1].removesuffix(CRLF))
        if len(parts) != 3 or protocol is None or not line.endswith(CRLF):
            self.simple_response("400 Bad Request", "the request line cannot be read")
            return False
        self.method, self.uri = parts[0], parts[1]
        path, _, query = self.uri.partition(b"?")
        if not path.startswith(b"/") and b"://" in path:  # absolute-form (RFC 9112, 3.2.2)
            path = b"/" + path.partition(b"://")[2].partition(b"/")[2]
        self.path = urllib.parse.unquote_to_bytes(path) if b"%" in path else path
        self.qs = query
        self.authority = b""
        self.response_protocol = protocol
        uri = self.uri.decode("latin-1")
        self.environ = {
            **SAME,
            "REQUEST_METHOD": self.method.decode("latin-1"),
            "PATH_INFO": self.path.decode("latin-1"),
            "QUERY_STRING": query.decode("latin-1"),
            "REQUEST_URI": uri,
            "RAW_URI": uri,
            "SERVER_PROTOCOL": protocol,  # the request's
        }
        return True

    def header_reader(self, rfile: Any, fields: dict[bytes, bytes]) -> None:
        """Read the fields into `environ`, and those that cheroot asks for into `fields` too; `ValueError` if they are not HTTP."""
        environ = self.environ
        read = rfile.rfile.readline  # without cheroot's wrapper, which reads in Python
        left_bytes = MAX_LINE_BYTES
        while (line := read(left_bytes)) != CRLF:
            left_bytes -= len(line)
            name, colon, value = line.partition(b":")
            if not colon or not line.endswith(CRLF):
                raise ValueError("a field of the head cannot be read")
            key, cheroots = _names[name]
            if not key:
                continue
            text = value.strip().decode("latin-1")
            if key in environ:
                text = environ[key] + SEPARATORS.get(key, ",") + text
            environ[key] = text
            if cheroots:
                fields[cheroots] = text.encode("latin-1")

    def simple_response(self, status: str, msg: str = "") -> None:
        """Answer a request that cheroot could not read, and log it."""
        if not str(status).startswith("100"):
            print(f"Invalid HTTP request received: {status}{msg and f', {msg}'}", file=sys.stderr)  # noqa: T201 - the container's log
        self.close_connection = True
        super().simple_response(status, msg)

    def send_headers(self) -> None:
        """Send the head; an app's 425 as another status (see `answer`)."""
        status: Any = self.status  # bytes, whatever cheroot says
        if status[:3] == b"%d" % TOO_EARLY:
            self.__dict__["status"] = b"%d Too Early" % INSTEAD
            self.outheaders.append(AS_APP)
        super().send_headers()
