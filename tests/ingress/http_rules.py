"""What RFC 9110, 9112 and 9113 demand of an intermediary, as a table: the bytes that are sent, and the result that is required.

`HOST` in the bytes stands for a known host. A case says which statuses are right, and what the container
may see: `SEEN` (a request like any other), `UNSEEN` (nothing), or a function of the head and body it got.
"""

from collections.abc import Callable
from dataclasses import dataclass

from hpack import Encoder
from hyperframe.frame import DataFrame, HeadersFrame, SettingsFrame

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
BIG = b"x" * 4000
KNOWN = "known.localhost"


@dataclass(frozen=True)
class Seen:
    """A request as the container has received it."""

    head: bytes
    body: bytes

    @property
    def fields(self) -> dict[bytes, list[bytes]]:
        """Return the fields: lower-case name -> values."""
        found: dict[bytes, list[bytes]] = {}
        for line in self.head.split(b"\r\n")[1:]:
            name, _, value = line.partition(b":")
            found.setdefault(name.lower(), []).append(value.strip())
        return found

    def has(self, name: str) -> bool:
        """Return whether the container has received a field with this name."""
        return name.encode() in self.fields


@dataclass(frozen=True)
class Case:
    """One requirement of the RFCs."""

    name: str
    rfc: str
    sent: bytes | tuple[bytes, ...]  # the pieces are sent one after the other
    statuses: tuple[int, ...] = (200,)  # 0: the connection or the stream ends without a response
    seen: bool | Callable[[Seen], bool] | None = None  # None: either way
    then: Callable[[bytes], bool] | None = None  # a condition on all bytes of the response


def get(
    fields: bytes = b"", path: bytes = b"/", version: bytes = b"1.1", body: bytes = b""
) -> bytes:
    """A GET, or whatever else `path` begins with."""
    line = path if b" " in path else b"GET " + path
    return line + b" HTTP/" + version + b"\r\nHost: HOST\r\n" + fields + b"\r\n" + body


def post(fields: bytes, body: bytes = b"", version: bytes = b"1.1") -> bytes:
    """A POST with these fields, as they stand."""
    return get(fields, b"POST /", version, body)


def h2(
    *extra: tuple[str, str],
    without: str = "",
    body: bytes | None = None,
    raw: bytes = b"",
    **pseudo: str,
) -> bytes:
    """An HTTP/2 connection with one request."""
    values = {"method": "GET", "scheme": "http", "authority": KNOWN, "path": "/", **pseudo}
    fields = [(f":{k}", v) for k, v in values.items() if k != without] + list(extra)
    head = HeadersFrame(1)
    head.data = Encoder().encode(fields, huffman=False) + raw
    head.flags.add("END_HEADERS")
    frames = SettingsFrame(0).serialize()
    if body is None:
        head.flags.add("END_STREAM")
        return PREFACE + frames + head.serialize()
    data = DataFrame(1, body)
    data.flags.add("END_STREAM")
    return PREFACE + frames + head.serialize() + data.serialize()


def literal(name: bytes, value: bytes) -> bytes:
    """Encode a field in HPACK's simplest form, also if it is not valid (RFC 7541, 6.2.2)."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


def answer(path: bytes, method: bytes = b"GET") -> bytes:
    """A request to which the container answers as `ANSWERS` says."""
    return get(b"", method + b" " + path)


OK, REFUSED = (200,), (400,)
SEEN, UNSEEN = True, False

REQUEST_LINE = [
    Case("an ordinary request", "9112 2.1", get(), OK, SEEN),
    Case("HTTP/1.0", "9112 2.3", get(version=b"1.0"), OK, SEEN),
    Case("HTTP/2.0 in a request line", "9112 2.3", get(version=b"2.0"), (400, 505), UNSEEN),
    Case("HTTP/3.0 in a request line", "9112 2.3", get(version=b"3.0"), (400, 505), UNSEEN),
    Case(
        "a version in lower case",
        "9112 2.3",
        b"GET / http/1.1\r\nHost: HOST\r\n\r\n",
        REFUSED,
        UNSEEN,
    ),
    Case("a version without a number", "9112 2.3", get(version=b"x"), REFUSED, UNSEEN),
    Case("no version", "9112 3", b"GET /\r\n\r\n", (400, 0), UNSEEN),
    Case("an empty line before the request", "9112 2.2", b"\r\n" + get(), OK, SEEN),
    Case(
        "a blank line that begins the fields",
        "9112 2.2",
        b"GET / HTTP/1.1\r\n Host: HOST\r\n\r\n",
        REFUSED,
        UNSEEN,
    ),
    Case(
        "a blank in the target",
        "9112 3.2",
        b"GET /a b HTTP/1.1\r\nHost: HOST\r\n\r\n",
        REFUSED,
        UNSEEN,
    ),
    Case("a control character in the target", "9112 3.2", get(path=b"/a\x01b"), REFUSED, UNSEEN),
    Case("a letter beyond ASCII in the target", "3986 2", get(path="/ü".encode()), REFUSED, UNSEEN),
    Case("a method that is no token", "9110 9.1", get(path=b"G@T /"), REFUSED, UNSEEN),
    Case("an unknown method", "9110 9.1", get(path=b"BREW /"), (200, 501), None),
    Case("a target that is no path", "9112 3.2", get(path=b"foo"), REFUSED, UNSEEN),
    Case("an asterisk with GET", "9112 3.2.4", get(path=b"*"), REFUSED, UNSEEN),
    Case("an asterisk with OPTIONS", "9112 3.2.4", get(path=b"OPTIONS *"), OK, None),
    Case("an authority with GET", "9112 3.2.3", get(path=b"HOST:80"), REFUSED, UNSEEN),
    Case(
        "CONNECT",
        "9110 9.3.6",
        b"CONNECT HOST:443 HTTP/1.1\r\nHost: HOST:443\r\n\r\n",
        (400, 405, 501),
        UNSEEN,
    ),
    Case("CONNECT with a path", "9110 9.3.6", get(path=b"CONNECT /"), (400, 405, 501), UNSEEN),
    Case(
        "a target that is too long", "9110 15.5.15", get(path=b"/" + BIG * 12), (414, 431), UNSEEN
    ),
]
HOST = [
    Case("no Host", "9112 3.2", b"GET / HTTP/1.1\r\n\r\n", REFUSED, UNSEEN),
    Case("no Host, HTTP/1.0", "9112 3.2", b"GET / HTTP/1.0\r\n\r\n", (200, 404), None),
    Case("two Hosts", "9112 3.2", get(b"Host: other\r\n"), REFUSED, UNSEEN),
    # HAProxy takes two that are equal for one: nobody can be led astray by them.
    Case(
        "two equal Hosts",
        "9112 3.2",
        get(b"Host: HOST\r\n"),
        (200, 400),
        lambda s: len(s.fields[b"host"]) == 1,
    ),
    Case(
        "two Hosts, HTTP/1.0", "9112 3.2", get(b"Host: other\r\n", version=b"1.0"), REFUSED, UNSEEN
    ),
    *(
        Case(
            f"Host {host!r}",
            "9112 3.2",
            b"GET / HTTP/1.1\r\nHost: %s\r\n\r\n" % host,
            REFUSED,
            UNSEEN,
        )
        for host in (
            b"",
            b"a b",
            b"HOST/x",
            b"me@HOST",
            b"HOST:port",
            b"HOST:80:80",
            b"HOST,other",
            b"HOST?x",
            b"HOST#x",
            b"HOST\\x",
            b"\xc3\xbc.localhost",
            b"[::1",
            b":80",
            b"HOST:123456",
        )
    ),
    Case("a Host with a port", "9112 3.2", b"GET / HTTP/1.1\r\nHost: HOST:4663\r\n\r\n", OK, SEEN),
    Case(
        "a whole URL",
        "9112 3.2.2",
        get(path=b"http://HOST/a"),
        OK,
        lambda s: b" /a " in s.head or b"http://" in s.head,
    ),
    Case(
        "a whole URL and another Host",
        "9112 3.2.2",
        b"GET http://HOST/ HTTP/1.1\r\nHost: other\r\n\r\n",
        (200, 400),
        lambda s: b"other" not in s.head,
    ),
    Case(
        "another URL than the Host",
        "9112 3.2.2",
        get(path=b"http://other.localhost/"),
        (400, 404),
        UNSEEN,
    ),
    Case(
        "a whole URL without Host",
        "9112 3.2",
        b"GET http://HOST/ HTTP/1.1\r\n\r\n",
        REFUSED,
        UNSEEN,
    ),
    Case("a user in a URL", "9110 4.2.4", get(path=b"http://me@HOST/"), (200, 400), None),
]
FIELDS = [
    Case("a blank before the colon", "9112 5.1", get(b"X-A : b\r\n"), REFUSED, UNSEEN),
    Case("a field without a colon", "9112 5", get(b"X-A\r\n"), REFUSED, UNSEEN),
    Case("a field without a name", "9112 5", get(b": b\r\n"), REFUSED, UNSEEN),
    Case("a name that is no token", "9110 5.1", get(b"X(A): b\r\n"), REFUSED, UNSEEN),
    Case(
        "a folded field",
        "9112 5.2",
        get(b"X-A: b\r\n c\r\n"),
        (200, 400),
        lambda s: b"\r\n " not in s.head,
    ),
    Case(
        "a CR in a value",
        "9112 2.2",
        get(b"X-A: b\rc\r\n"),
        (200, 400),
        lambda s: b"b\rc" not in s.head,
    ),
    Case(
        "a NUL in a value",
        "9110 5.5",
        get(b"X-A: b\0c\r\n"),
        (200, 400),
        lambda s: b"\0" not in s.head,
    ),
    Case("an empty value", "9110 5.5", get(b"X-A:\r\n"), OK, lambda s: s.fields[b"x-a"] == [b""]),
    Case(
        "blanks around a value",
        "9112 5",
        get(b"X-A: \t b \t\r\n"),
        OK,
        lambda s: s.fields[b"x-a"] == [b"b"],
    ),
    Case(
        "a field that comes twice keeps its order",
        "9110 5.3",
        get(b"X-A: 1\r\nX-B: 0\r\nX-A: 2\r\n"),
        OK,
        lambda s: s.fields[b"x-a"] in ([b"1", b"2"], [b"1, 2"], [b"1,2"]),
    ),
    Case(
        "a head that is too large",
        "6585 5",
        get(b"".join(b"X-%d: %s\r\n" % (n, BIG) for n in range(10))),
        (431,),
        UNSEEN,
    ),
    Case("a field that is too large", "6585 5", get(b"X-A: " + BIG * 14 + b"\r\n"), (431,), UNSEEN),
    Case(
        "a head of 28 KiB",
        "9110 5.4",
        get(b"".join(b"X-%d: %s\r\n" % (n, BIG) for n in range(7))),
        OK,
        SEEN,
    ),
    Case(
        "too many fields",
        "6585 5",
        get(b"".join(b"X-%d: 1\r\n" % n for n in range(1500))),
        (400, 431),
        UNSEEN,
    ),
]
CHUNK = b"5\r\nhello\r\n0\r\n\r\n"
TE = b"Transfer-Encoding: chunked\r\n"


def hello(seen: Seen) -> bool:
    """The whole body has arrived, and its length is given once."""
    framed = seen.fields.get(b"content-length", []) + seen.fields.get(b"transfer-encoding", [])
    return seen.body == b"hello" and len(framed) == 1


FRAMING = [
    Case("a body with a length", "9112 6.3", post(b"Content-Length: 5\r\n", b"hello"), OK, hello),
    Case("a chunked body", "9112 7.1", post(TE, CHUNK), OK, hello),
    Case("a GET with a body", "9112 6", get(b"Content-Length: 5\r\n", body=b"hello"), OK, hello),
    Case(
        "a length and chunks",
        "9112 6.3",
        post(b"Content-Length: 3\r\n" + TE, CHUNK),
        (200, 400),
        hello,
    ),
    Case(
        "chunks and a length",
        "9112 6.3",
        post(TE + b"Content-Length: 3\r\n", CHUNK),
        (200, 400),
        hello,
    ),
    Case(
        "two lengths",
        "9112 6.3",
        post(b"Content-Length: 5\r\nContent-Length: 6\r\n", b"hello!"),
        REFUSED,
        UNSEEN,
    ),
    Case(
        "two equal lengths",
        "9112 6.3",
        post(b"Content-Length: 5\r\nContent-Length: 5\r\n", b"hello"),
        (200, 400),
        hello,
    ),
    Case(
        "lengths in a list",
        "9112 6.3",
        post(b"Content-Length: 5, 6\r\n", b"hello!"),
        REFUSED,
        UNSEEN,
    ),
    *(
        Case(
            f"the length {text!r}",
            "9110 8.6",
            post(b"Content-Length: %s\r\n" % text, b"hello"),
            (400, 413),
            UNSEEN,
        )
        for text in (b"-5", b"+5", b"0x5", b"5 5", b"5a", b"", b"99999999999999999999", b"5\0")
    ),
    *(
        Case(
            f"the coding {text!r}",
            "9112 6.1",
            post(b"Transfer-Encoding: %s\r\n" % text, CHUNK),
            (400, 501, 422),
            UNSEEN,
        )
        for text in (
            b"xchunked",
            b"identity",
            b"chunked, identity",
            b"chunked, chunked",
            b"chunked x",
            b"\x0bchunked",
            b"",
            b"ch\xc3\xbcnked",
        )
    ),
    Case(
        "two codings",
        "9112 6.1",
        post(TE + b"Transfer-Encoding: identity\r\n", CHUNK),
        (400, 501, 422),
        UNSEEN,
    ),
    Case(
        "a coding with a blank before its colon",
        "9112 5.1",
        post(b"Transfer-Encoding : chunked\r\n", CHUNK),
        REFUSED,
        UNSEEN,
    ),
    Case("a coding in HTTP/1.0", "9112 6.1", post(TE, CHUNK, b"1.0"), (200, 400), hello),
    Case(
        "a coding in other letters",
        "9112 6.1",
        post(b"tRANSFER-eNCODING: cHUNKED\r\n", CHUNK),
        OK,
        hello,
    ),
    *(
        Case(
            f"the chunk {text!r}",
            "9112 7.1",
            post(TE, text),
            (400, 0, 502),
            lambda s: s.body in (b"", b"hello"[:5]) and False,
        )
        for text in (
            b"z\r\nhello\r\n0\r\n\r\n",
            b"-5\r\nhello\r\n0\r\n\r\n",
            b"0x5\r\nhello\r\n0\r\n\r\n",
            b"5\r\nhelloX\r\n0\r\n\r\n",
            b"5\r\nhello0\r\n\r\n",
            b"\r\nhello\r\n0\r\n\r\n",
            b"ffffffffffffffff5\r\nhello\r\n0\r\n\r\n",
            b" 5\r\nhello\r\n0\r\n\r\n",
        )
    ),
    Case("a chunk's extension", "9112 7.1.1", post(TE, b"5;a=b\r\nhello\r\n0\r\n\r\n"), OK, hello),
    Case(
        "leading zeros of a chunk", "9112 7.1", post(TE, b"00005\r\nhello\r\n0\r\n\r\n"), OK, hello
    ),
    Case(
        "a trailer is no header",
        "9110 6.5",
        post(TE, b"5\r\nhello\r\n0\r\nX-Forwarded-For: 6.6.6.6\r\nHost: evil\r\n\r\n"),
        OK,
        lambda s: b"evil" not in s.head and b"6.6.6.6" not in s.head,
    ),
    Case(
        "a second request behind the first",
        "9112 9.3.2",
        get(path=b"/1") + get(b"Connection: close\r\n", b"/2"),
        OK,
        SEEN,
        lambda all: (
            all.count(b"HTTP/1.1 200") == 2 and all.index(b"path=/1") < all.index(b"path=/2")
        ),
    ),
    Case(
        "a request behind a body",
        "9112 6.3",
        post(b"Content-Length: 5\r\n", b"hello") + get(b"Connection: close\r\n", b"/2"),
        OK,
        SEEN,
        lambda all: all.count(b"HTTP/1.1 200") == 2,
    ),
    Case(
        "a request within a body that is none",
        "9112 11.2",
        post(b"Content-Length: 5\r\n" + TE, b"0\r\n\r\n" + get(path=b"/smuggled")),
        (200, 400),
        lambda s: (
            (b"smuggled" not in s.body and b"smuggled" not in s.head.split(b"\r\n")[0])
            or b" /smuggled " in s.head.split(b"\r\n")[0]
        ),
    ),
]
EXPECT = [
    Case(
        "100-continue",
        "9110 10.1.1",
        (post(b"Content-Length: 5\r\nExpect: 100-continue\r\n"), b"hello"),
        (100,),
        hello,
        lambda all: b"HTTP/1.1 200" in all,
    ),
    Case(
        "100-continue in HTTP/1.0",
        "9110 10.1.1",
        (post(b"Content-Length: 5\r\nExpect: 100-continue\r\n", version=b"1.0"), b"hello"),
        OK,
        hello,
    ),
    Case(
        "another expectation",
        "9110 10.1.1",
        post(b"Content-Length: 5\r\nExpect: miracles\r\n", b"hello"),
        (200, 417),
        None,
    ),
]


def without(*names: str) -> Callable[[Seen], bool]:
    """The container has received none of these fields."""
    return lambda seen: not any(seen.has(name) for name in names)


HOPS = [
    Case(
        "a field that Connection names",
        "9110 7.6.1",
        get(b"Connection: X-Hop, close\r\nX-Hop: 1\r\nX-End: 1\r\n"),
        OK,
        lambda s: not s.has("x-hop") and s.has("x-end"),
    ),
    Case(
        "two Connections",
        "9110 7.6.1",
        get(b"Connection: X-One\r\nX-One: 1\r\nConnection: x-two\r\nX-Two: 1\r\n"),
        OK,
        without("x-one", "x-two"),
    ),
    Case(
        "Connection names what has to stay",
        "9110 7.6.1",
        post(
            b"Connection: Host, Content-Length, X-Request-Id, X-Forwarded-For\r\nContent-Length: 5\r\n",
            b"hello",
        ),
        (200, 400),
        lambda s: (
            s.body == b"hello"
            and s.has("host")
            and s.has("x-request-id")
            and s.has("x-forwarded-for")
        ),
    ),
    Case(
        "Keep-Alive",
        "9110 7.6.1",
        get(b"Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n"),
        OK,
        without("keep-alive"),
    ),
    Case(
        "Proxy-Connection",
        "9112 C.2.2",
        get(b"Proxy-Connection: keep-alive\r\n"),
        OK,
        without("proxy-connection"),
    ),
    Case(
        "TE",
        "9110 10.1.4",
        get(b"Connection: TE\r\nTE: gzip;q=1, trailers\r\n"),
        OK,
        lambda s: s.fields.get(b"te", [b"trailers"]) == [b"trailers"],
    ),
    Case(
        "an upgrade to h2c",
        "9113 3.1",
        get(
            b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
        ),
        OK,
        without("upgrade", "http2-settings"),
    ),
    Case(
        "an upgrade to anything else keeps the body",
        "9110 7.8",
        post(b"Connection: Upgrade\r\nUpgrade: foo/2\r\nContent-Length: 5\r\n", b"hello"),
        OK,
        lambda s: s.body == b"hello" and not s.has("upgrade"),
    ),
    Case(
        "an upgrade that Connection does not name",
        "9110 7.8",
        get(b"Upgrade: websocket\r\n"),
        (200, 400),
        without("upgrade"),
    ),
    Case(
        "an upgrade in HTTP/1.0",
        "9110 7.8",
        get(b"Connection: Upgrade\r\nUpgrade: websocket\r\n", version=b"1.0"),
        (200, 400),
        without("upgrade"),
    ),
    Case(
        "an upgrade to WebSocket",
        "6455 4",
        get(
            b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        ),
        OK,
        lambda s: s.fields[b"upgrade"] == [b"websocket"],
    ),
    Case(
        "Connection: close",
        "9112 9.6",
        get(b"Connection: close\r\n"),
        OK,
        SEEN,
        lambda all: b"onnection: close" in all,
    ),
    Case(
        "a kept connection in HTTP/1.0",
        "9112 9.3",
        get(b"Connection: keep-alive\r\n", version=b"1.0"),
        OK,
        SEEN,
    ),
    Case(
        "TRACE that may go no further",
        "9110 7.6.2",
        get(b"Max-Forwards: 0\r\n", b"TRACE /"),
        (200, 400, 405, 501),
        UNSEEN,
    ),
    Case(
        "OPTIONS that may go no further",
        "9110 7.6.2",
        get(b"Max-Forwards: 0\r\n", b"OPTIONS /"),
        (200, 204),
        UNSEEN,
    ),
    Case(
        "OPTIONS that may go on",
        "9110 7.6.2",
        get(b"Max-Forwards: 5\r\n", b"OPTIONS /"),
        OK,
        lambda s: s.fields[b"max-forwards"] == [b"4"],
    ),
    Case("Max-Forwards of another method", "9110 7.6.2", get(b"Max-Forwards: 0\r\n"), OK, SEEN),
]
ANSWERS = {
    b"/hop": b"HTTP/1.1 200 OK\r\nConnection: X-Hop, keep-alive\r\nX-Hop: 1\r\nX-End: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nUpgrade: foo\r\nContent-Length: 2\r\n\r\nok",
    b"/204": b"HTTP/1.1 204 No Content\r\n\r\n",
    b"/304": b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n',
    b"/103": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    b"/close": b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
    b"/both": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNK,
    b"/two": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nhello",
    b"/garbage": b"rubbish\r\n\r\n",
    b"/nothing": b"",
    b"/fold": b"HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 2\r\n\r\nok",
    b"/nul": b"HTTP/1.1 200 OK\r\nX-A: b\0c\r\nContent-Length: 2\r\n\r\nok",
    b"/blank": b"HTTP/1.1 200 OK\r\nX-A : b\r\nContent-Length: 2\r\n\r\nok",
    b"/cut": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello",
    b"/cut-chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    b"/101": b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: foo\r\n\r\n",
    b"/h10": b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
}
GATEWAY = (502,)


def lacks(*texts: bytes) -> Callable[[bytes], bool]:
    """The response has none of these texts, in upper or lower case."""
    return lambda got: not any(text in got.lower() for text in texts)


RESPONSES = [
    Case(
        "hop-by-hop fields of a response",
        "9110 7.6.1",
        answer(b"/hop"),
        OK,
        SEEN,
        lambda got: (
            lacks(b"x-hop", b"\r\nkeep-alive:", b"proxy-connection", b"upgrade")(got)
            and b"-end: 1" in got.lower()
        ),
    ),
    Case(
        "HEAD has no body",
        "9110 9.3.2",
        answer(b"/", b"HEAD"),
        OK,
        SEEN,
        lambda got: got.endswith(b"\r\n\r\n"),
    ),
    Case(
        "204 has no body",
        "9112 6.3",
        answer(b"/204"),
        (204,),
        SEEN,
        lacks(b"content-length", b"transfer-encoding"),
    ),
    Case(
        "304 has no body",
        "9112 6.3",
        answer(b"/304"),
        (304,),
        SEEN,
        lambda got: got.endswith(b"\r\n\r\n"),
    ),
    Case(
        "1xx comes before its response",
        "9110 15.2",
        answer(b"/103"),
        (103, 200),
        SEEN,
        lambda got: b"HTTP/1.1 200" in got,
    ),
    Case(
        "1xx is nothing for HTTP/1.0",
        "9110 15.2",
        get(path=b"/103", version=b"1.0"),
        (103, 200),
        SEEN,
    ),
    Case(
        "a response until the end is framed",
        "9112 6.3",
        answer(b"/close"),
        OK,
        SEEN,
        lambda got: (
            b"until the end" in got
            and (b"chunked" in got.lower() or b"connection: close" in got.lower())
        ),
    ),
    Case(
        "a response until the end, HTTP/1.0",
        "9112 6.1",
        get(path=b"/close", version=b"1.0"),
        OK,
        SEEN,
        lambda got: got.endswith(b"\r\n\r\nuntil the end") and lacks(b"transfer-encoding")(got),
    ),
    Case(
        "a response with a length and chunks",
        "9112 6.3",
        answer(b"/both"),
        (200, 502),
        SEEN,
        lambda got: b" 502 " in got or lacks(b"content-length: 3")(got),
    ),
    Case("a response with two lengths", "9112 6.3", answer(b"/two"), GATEWAY, SEEN),
    Case("a response that is none", "9110 15.6.3", answer(b"/garbage"), GATEWAY, SEEN),
    Case("no response", "9110 15.6.3", answer(b"/nothing"), GATEWAY, SEEN),
    Case(
        "a folded field in a response",
        "9112 5.2",
        answer(b"/fold"),
        (200, 502),
        SEEN,
        lacks(b"\r\n c"),
    ),
    Case("a NUL in a response", "9110 5.5", answer(b"/nul"), (200, 502), SEEN, lacks(b"\0")),
    Case(
        "a blank before a response's colon",
        "9112 5.1",
        answer(b"/blank"),
        (200, 502),
        SEEN,
        lacks(b"x-a :"),
    ),
    Case(
        "a response that is cut short",
        "9112 8",
        answer(b"/cut"),
        (200, 502),
        SEEN,
        lambda got: b"hello" not in got or b"content-length: 9" in got.lower(),
    ),
    Case(
        "chunks that are cut short",
        "9112 8",
        answer(b"/cut-chunks"),
        (200, 502),
        SEEN,
        lambda got: b"\r\n0\r\n\r\n" not in got,
    ),
    Case("101 that nobody asked for", "9110 7.8", answer(b"/101"), (502, 0, 500), SEEN),
    Case(
        "a response of HTTP/1.0",
        "9110 2.5",
        answer(b"/h10"),
        OK,
        SEEN,
        lambda got: got.endswith(b"ok"),
    ),
]
STREAM_ENDS = (0, 400)
H2 = [
    Case("HTTP/2", "9113 3.3", h2(), OK, SEEN),
    Case(
        "HTTP/2 with a body",
        "9113 8.1",
        h2(("content-length", "5"), method="POST", body=b"hello"),
        OK,
        lambda s: s.body == b"hello",
    ),
    *(
        Case(
            f"the preface in two pieces, {n} bytes first",
            "9113 3.4",
            (h2()[:n], h2()[n:]),
            OK,
            SEEN,
        )
        for n in (1, 3, 10, 17)
    ),
    Case(
        "an unknown :protocol",
        "8441 4",
        h2(("sec-websocket-version", "13"), method="CONNECT", protocol="foo"),
        (400, 501, 0),
        UNSEEN,
    ),
    Case(
        "CONNECT, HTTP/2",
        "9113 8.5",
        PREFACE + h2(method="CONNECT", without="path")[24:],
        (400, 405, 501, 0),
        UNSEEN,
    ),
    Case(
        "connection", "9113 8.2.2", h2(("connection", "x-hop"), ("x-hop", "1")), STREAM_ENDS, UNSEEN
    ),
    Case("keep-alive", "9113 8.2.2", h2(("keep-alive", "1")), STREAM_ENDS, UNSEEN),
    Case("upgrade", "9113 8.2.2", h2(("upgrade", "websocket")), STREAM_ENDS, UNSEEN),
    Case(
        "transfer-encoding",
        "9113 8.2.2",
        h2(("transfer-encoding", "chunked"), method="POST", body=CHUNK),
        STREAM_ENDS,
        UNSEEN,
    ),
    Case("te that is not trailers", "9113 8.2.2", h2(("te", "gzip")), STREAM_ENDS, UNSEEN),
    Case("te: trailers", "9113 8.2.2", h2(("te", "trailers")), OK, SEEN),
    Case("capitals in a name", "9113 8.2.1", h2(raw=literal(b"X-A", b"1")), STREAM_ENDS, UNSEEN),
    Case(
        "a newline in a value",
        "9113 8.2.1",
        h2(raw=literal(b"x-a", b"b\r\nevil: 1")),
        STREAM_ENDS,
        UNSEEN,
    ),
    Case(
        "a NUL in a value, HTTP/2",
        "9113 8.2.1",
        h2(raw=literal(b"x-a", b"b\0c")),
        STREAM_ENDS,
        UNSEEN,
    ),
    Case("a colon in a name", "9113 8.2.1", h2(raw=literal(b"x:a", b"b")), STREAM_ENDS, UNSEEN),
    *(
        Case(f"no :{name}", "9113 8.3.1", h2(without=name), STREAM_ENDS, UNSEEN)
        for name in ("method", "scheme", "path", "authority")
    ),
    Case("an empty :path", "9113 8.3.1", h2(path=""), STREAM_ENDS, UNSEEN),
    Case("a :path with a blank", "9113 8.3.1", h2(path="/a b"), STREAM_ENDS, UNSEEN),
    Case("two :paths", "9113 8.3", h2((":path", "/b")), STREAM_ENDS, UNSEEN),
    Case("an unknown pseudo-header", "9113 8.3", h2((":foo", "b")), STREAM_ENDS, UNSEEN),
    Case(
        "a pseudo-header behind a field",
        "9113 8.3",
        h2(("x-a", "b"), (":path", "/"), without="path"),
        STREAM_ENDS,
        UNSEEN,
    ),
    Case(
        ":authority and another Host",
        "9113 8.3.1",
        h2(("host", "other")),
        (0, 200, 400),
        lambda s: b"other" not in s.head,
    ),
    Case(
        "a length that is not the body's",
        "9113 8.1.1",
        h2(("content-length", "3"), method="POST", body=b"hello"),
        STREAM_ENDS,
        None,
    ),
    Case(
        "a head that is too large, HTTP/2",
        "6585 5",
        h2(raw=b"".join(literal(b"x-a", b"v" * 120) for _ in range(300))[:16000]),
        (200, 431, 0),
        None,
    ),
]
EVERY = [*REQUEST_LINE, *HOST, *FIELDS, *FRAMING, *EXPECT, *HOPS, *RESPONSES, *H2]
