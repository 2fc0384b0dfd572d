"""Reads a WSGI request like gunicorn, where cheroot differs.

HAProxy has checked the head already. `environ` has the whole path, decoded once, with `//` and `%2F` (and
undecoded in `RAW_URI`). Repeated fields are joined with a comma, cookies with `; ` (RFC 9110, 5.3; RFC 9113,
8.2.3). Fields with an underscore in their name are dropped: in `environ` they would look like the
ingress's own fields.
"""

import sys
import urllib.parse
from typing import Any

from cheroot.server import HeaderReader, HTTPRequest

MAX_LINE_BYTES = 64 * 1024  # twice what HAProxy lets through for a whole head
CRLF = b"\r\n"
PROTOCOLS = {b"HTTP/1.1": "HTTP/1.1", b"HTTP/1.0": "HTTP/1.0"}
SEPARATORS = {b"Cookie": b"; "}


class Fields(HeaderReader):
    """Reads the fields of a head."""

    def __call__(self, rfile: Any, hdict: dict[bytes, bytes] | None = None) -> dict[bytes, bytes]:
        """Add the fields to `hdict`, with names in title case; `ValueError` if they are not HTTP."""
        fields = {} if hdict is None else hdict
        read = rfile.rfile.readline  # without cheroot's wrapper, which reads in Python
        left = MAX_LINE_BYTES
        while (line := read(left)) != CRLF:
            left -= len(line)
            name, colon, value = line.partition(b":")
            if not line.endswith(CRLF) or not colon or name.strip() != name or not name:
                raise ValueError("a field of the head cannot be read")
            if b"_" in name:
                continue
            name, value = name.title(), value.strip()
            if name in fields:
                value = fields[name] + SEPARATORS.get(name, b",") + value
            fields[name] = value
        return fields


class Request(HTTPRequest):
    """One request."""

    header_reader = Fields()

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
        self.request_protocol = parts[2].removesuffix(CRLF)
        self.response_protocol = protocol
        return True

    def simple_response(self, status: str, msg: str = "") -> None:
        """Answer a request that cheroot could not read, and log it."""
        if not str(status).startswith("100"):
            print(f"Invalid HTTP request received: {status}{msg and f', {msg}'}", file=sys.stderr)  # noqa: T201 - the container's log
        self.close_connection = True
        super().simple_response(status, msg)
