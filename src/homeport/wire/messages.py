"""A request, its answer and the frames of a stream, as bytes; no I/O."""

from dataclasses import field

from homeport.contract import calls
from homeport.contract.dataclass import dataclass
from homeport.contract.sizes import MIB
from homeport.wire.address import CALLS, Address

READ_BYTES = 256 * 1024
LARGE_BYTES = MIB  # bodies above this are sent apart from their head, and received into one buffer
MAX_HEAD_BYTES = 64 * 1024
BODILESS = (204, 304)


class Unreachable(ConnectionError):
    """No process listens on the socket, so the request was not sent."""


class CutOff(ConnectionError):
    """The connection ended before the whole answer came; the call may have run."""


@dataclass(frozen=True)
class Request:
    """One request."""

    endpoint: str  # calls.endpoint_id; empty: for the control plane (`target` says what)
    body: bytes
    content_type: str = calls.PICKLE
    query: str = ""  # class parameters, canonical: contract/parameters.py
    fields: dict[str, str] = field(default_factory=dict)
    method: str = "POST"
    target: str = "/"

    def head(self, address: "Address" = "") -> bytes:
        """Return the request's head, for that address; `ValueError` for a value that would end a line."""
        path, host = self.target, "calls"
        if not isinstance(address, str):
            host = str(address).partition("://")[2].partition("/")[0]
            path = address.base + (CALLS if self.endpoint else self.target)
        target = f"{path}?{self.query}" if self.query else path
        lines = [f"{self.method} {target} HTTP/1.1", f"Host: {host}"]
        if not isinstance(address, str):
            lines.append(f"Authorization: Bearer {address.token}")
        if self.endpoint:
            lines.append(f"{calls.CALL}: {self.endpoint}")
        lines += [f"Content-Type: {self.content_type}", f"Content-Length: {len(self.body)}"]
        lines += [f"{name}: {value}" for name, value in self.fields.items()]
        text = "\r\n".join(lines)
        if text.count("\n") != len(lines) - 1 or text.count("\r") != len(lines) - 1:
            raise ValueError("a field of a request holds the end of a line")
        return f"{text}\r\n\r\n".encode("latin-1")


class Answer:
    """The answer to a request, read piece by piece: `feed` it until `is_whole`."""

    def __init__(self) -> None:
        self.status = 0  # 0: the head is not complete
        self.fields: dict[str, str] = {}  # by name in lower case
        self.is_whole = False
        self.parts: list[bytes] = []  # of the body, as they came; a stream's reader takes them out
        self._rest = b""  # bytes that have arrived and are not parsed
        self._left = 0  # bytes of the body, or of the chunk, that have not arrived
        self._chunked = False
        self._buffer: memoryview | None = None  # for a large body
        self._large = bytearray()

    @property
    def body(self) -> "bytes | bytearray":
        """The whole body."""
        return self._large if self._buffer is not None else b"".join(self.parts)

    @property
    def outcome(self) -> str:
        """The kind of the body, as the container says; empty if the container did not answer the call."""
        return self.fields.get("x-homeport-outcome", "") if self.status == 200 else ""

    @property
    def keeps_alive(self) -> bool:
        """True if the connection may be used again."""
        return self.is_whole and self.fields.get("connection", "").lower() != "close"

    @property
    def wants_bytes(self) -> int:
        """How many bytes to read at once."""
        return min(max(self._left, READ_BYTES), 16 * LARGE_BYTES)

    def feed(self, data: bytes) -> None:
        """Parse the bytes that have arrived; `ValueError` if they are not HTTP."""
        if not self.status:
            data = self._rest + data
            head, separator, following = data.partition(b"\r\n\r\n")
            if not separator:
                if len(data) > MAX_HEAD_BYTES:
                    raise ValueError("the head of an answer is too large")
                self._rest = data
                return
            self._rest = b""
            self._read_head(head)
            if self.status < 200:  # 100 Continue
                self.status = 0
                self.feed(following)
                return
            data = following
        if self._chunked:
            self._read_chunks(data)
        elif not self.is_whole:
            self._read_body(data)

    def _read_head(self, head: bytes) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        if not first.startswith("HTTP/1.") or not first[9:12].isdigit():
            raise ValueError(f"this is not HTTP: {first[:40]!r}")
        self.status = int(first[9:12])
        self.fields = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        if self.status < 200:
            return
        self._chunked = self.fields.get("transfer-encoding", "").lower() == "chunked"
        if self._chunked:
            return
        self._left = int(self.fields.get("content-length", "0"))
        if self.status in BODILESS or not self._left:
            self.is_whole = True
        elif self._left > LARGE_BYTES:
            self._large = bytearray(self._left)
            self._buffer = memoryview(self._large)

    def _read_body(self, data: bytes) -> None:
        if len(data) > self._left:
            raise ValueError("an answer is longer than it says")
        if self._buffer is not None:
            at = len(self._large) - self._left
            self._buffer[at : at + len(data)] = data
        elif data:
            self.parts.append(data)
        self._left -= len(data)
        self.is_whole = not self._left

    def _read_chunks(self, data: bytes) -> None:
        """Parse chunks (RFC 9112, 7.1); trailers are dropped."""
        data = self._rest + data
        at = 0
        while not self.is_whole:
            if self._left > 2:
                part = data[at : at + self._left - 2]
                if part:
                    self.parts.append(part)
                self._left -= len(part)
                at += len(part)
            if self._left:  # what is left is the end of the chunk's last line
                if len(data) - at < self._left or self._left > 2:
                    break
                at += self._left
                self._left = 0
            end = data.find(b"\r\n", at)
            if end < 0:
                break
            size = int(data[at:end].partition(b";")[0], 16)
            if size:
                at = end + 2
                self._left = size + 2
            elif (last := data.find(b"\r\n\r\n", end)) >= 0:  # no trailers: the two are the same
                self.is_whole = True
                at = last + 4
            else:
                break
        self._rest = data[at:]


class Frames:
    """Takes a stream's bytes apart into frames (contract/calls.py)."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> "list[tuple[bytes, bytes]]":
        """Return the frames that are complete now: their kind and their body."""
        self._data += data
        frames = []
        at = 0
        while len(self._data) - at >= calls.FRAME_HEAD_BYTES:
            end = at + calls.FRAME_HEAD_BYTES + int.from_bytes(self._data[at : at + 4], "big")
            if len(self._data) < end:
                break
            kind = bytes(self._data[at + 4 : at + 5])
            frames.append((kind, bytes(self._data[at + calls.FRAME_HEAD_BYTES : end])))
            at = end
        del self._data[:at]
        return frames
