"""The client of calls against a server that answers byte by byte, cuts off, and keeps alive."""

import asyncio
import contextlib
import datetime as dt
import socket
import ssl
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from homeport import wire
from homeport.contract import calls
from homeport.wire import Answer, Frames, Request, address, blocking, looped
from tests.waiting import until

OK = b"HTTP/1.1 200 OK\r\nx-homeport-outcome: value\r\ncontent-length: 5\r\n\r\nhello"
STREAM = (
    b"HTTP/1.1 200 OK\r\nx-homeport-outcome: stream\r\ntransfer-encoding: chunked\r\n\r\n"
    + b"".join(
        b"%x\r\n%s\r\n" % (len(part), part)
        for part in (calls.frame(b"i", b"one"), calls.frame(b"i", b"two") + calls.frame(b"z", b""))
    )
    + b"0\r\n\r\n"
)


class Server:
    """Answers each request with the next of its answers; None closes the connection. It has `most` connections at once."""

    def __init__(self, path, answers, most=100):
        self._room = threading.Semaphore(most)
        self.path, self.answers = str(path), list(answers)
        self.requests: list[bytes] = []
        self.connections = 0
        self._open: list[socket.socket] = []
        self.ended = threading.Event()  # a client has hung up
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def listen(self, backlog):
        self._listener.listen(backlog)

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._room.release()
        for connection in self._open:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(60)

    def _accept(self):
        with contextlib.suppress(OSError):
            while self._room.acquire():
                connection, _ = self._listener.accept()
                self.connections += 1
                self._open.append(connection)
                thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection):
        with contextlib.suppress(OSError):
            self._answer(connection)
        connection.close()
        self._room.release()

    def _answer(self, connection):
        with connection:
            while True:
                data = b""
                while b"\r\n\r\n" not in data:
                    piece = connection.recv(65536)
                    if not piece:
                        self.ended.set()
                        return
                    data += piece
                head, _, body = data.partition(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                while len(body) < length:
                    body += connection.recv(65536)
                self.requests.append(head + b"\r\n\r\n" + body)
                answer = self.answers.pop(0)
                if answer is None:
                    return
                connection.sendall(answer)


@pytest.fixture
def serve(tmp_path):
    servers = []

    def serve(*answers, most=100):
        servers.append(Server(tmp_path / f"s{len(servers)}", answers, most))
        return servers[-1]

    yield serve
    blocking._own.connection and blocking._own.connection.close()
    blocking._own.connection = None
    for server in servers:
        server.close()


REQUEST = Request("call-" + "0" * 32, b"body", query="a=1", fields={"X-A": "b"})


def test_a_request_says_its_endpoint_and_cannot_hold_another_line():
    head = REQUEST.head()

    assert head.startswith(b"POST /?a=1 HTTP/1.1\r\nHost: calls\r\nX-Homeport-Call: call-0")
    assert b"Content-Length: 4\r\nX-A: b\r\n\r\n" in head
    for wrong in ({"X-A": "b\r\nX-B: c"}, {"X-A": "b\nc"}):
        with pytest.raises(ValueError, match="end of a line"):
            Request("call-1", b"", fields=wrong).head()
    with pytest.raises(ValueError, match="end of a line"):
        Request("call-1", b"", query="a\r\n").head()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("whole", [OK, STREAM, b"HTTP/1.1 100 Continue\r\n\r\n" + OK])
def test_an_answer_is_the_same_in_whatever_pieces_it_comes(whole, size):
    answer = Answer()
    for at in range(0, len(whole), size):
        assert not answer.is_whole
        answer.feed(whole[at : at + size])

    assert answer.is_whole
    assert answer.keeps_alive
    if answer.outcome == calls.VALUE:
        assert b"hello" == answer.body
    else:
        assert [(b"i", b"one"), (b"i", b"two"), (b"z", b"")] == Frames().feed(answer.body)


def test_trailers_are_dropped_and_what_is_not_http_is_an_error():
    answer = Answer()
    answer.feed(STREAM[:-2] + b"X-Homeport-Outcome: value\r\n\r\n")
    assert answer.is_whole
    assert calls.STREAM == answer.outcome

    for wrong in (b"SSH-2.0-x\r\n\r\n", b"x" * 100_000, OK + b"more"):
        with pytest.raises(ValueError):
            Answer().feed(wrong)


def test_a_thread_keeps_its_connection(serve):
    server = serve(OK, OK, STREAM, OK)
    for _ in range(2):
        assert b"hello" == wire.ask(server.path, REQUEST).body
    answer, frames = wire.frames(server.path, REQUEST)
    assert [b"one", b"two", b""] == [body for _, body in frames]
    assert calls.STREAM == answer.outcome
    wire.ask(server.path, REQUEST)

    assert 1 == server.connections
    assert server.requests[0].endswith(b"body")


def test_a_large_body_goes_and_comes_whole(serve):
    large = b"z" * (3 * 1024**2)
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(large)
    server = serve(head + large, head + large)

    assert large == wire.ask(server.path, Request("call-1", large)).body
    assert large == asyncio.run(wire.ask_async(server.path, Request("call-1", large))).body
    assert all(request.endswith(large) for request in server.requests)


def test_nobody_there_and_a_cut_answer_are_different_errors(serve, tmp_path):
    with pytest.raises(wire.Unreachable):
        wire.ask(str(tmp_path / "nobody"), REQUEST)
    with pytest.raises(wire.Unreachable):
        asyncio.run(wire.ask_async(str(tmp_path / "nobody"), REQUEST))

    server = serve(None, OK[:-1], None, STREAM[:-20])
    with pytest.raises(wire.CutOff):
        wire.ask(server.path, REQUEST)
    with pytest.raises(wire.CutOff):
        asyncio.run(wire.ask_async(serve(None).path, REQUEST))


def test_closing_a_stream_hangs_up(serve):
    cut = STREAM[: STREAM.index(b"two")]
    server = serve(cut)
    _, frames = wire.frames(server.path, REQUEST)
    assert (b"i", b"one") == next(frames)
    frames.close()

    assert server.ended.wait(60)


async def test_a_loop_has_as_many_connections_as_requests_at_once(serve):
    server = serve(*[OK] * 6)
    await asyncio.gather(*(wire.ask_async(server.path, REQUEST) for _ in range(3)))
    for _ in range(3):
        assert b"hello" == (await wire.ask_async(server.path, REQUEST)).body

    assert 3 == server.connections


async def test_idle_connections_leave_room_for_more_requests_than_the_other_side_takes(
    serve, monkeypatch
):
    monkeypatch.setattr(looped, "IDLE_MOST", 2)
    server = serve(*[OK] * 20, most=4)
    server.listen(1)  # the others find a full queue
    asking = [wire.ask_async(server.path, REQUEST) for _ in range(20)]

    answers = await asyncio.wait_for(asyncio.gather(*asking), 60)

    assert [b"hello"] * 20 == [answer.body for answer in answers]


async def test_a_cancelled_request_hangs_up(serve):
    server = serve(b"")
    asking = asyncio.create_task(wire.ask_async(server.path, REQUEST))
    await until(lambda: server.requests, "the request")
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking

    assert await asyncio.to_thread(server.ended.wait, 60)


async def test_a_stream_is_read_on_a_loop(serve):
    server = serve(STREAM, OK, STREAM[: STREAM.index(b"two")])
    _, frames = await wire.frames_async(server.path, REQUEST)
    assert [b"one", b"two", b""] == [body async for _, body in frames]
    answer, frames = await wire.frames_async(server.path, REQUEST)
    assert [] == [frame async for frame in frames]
    assert b"hello" == answer.body
    assert 1 == server.connections

    _, frames = await wire.frames_async(server.path, REQUEST)
    assert (b"i", b"one") == await anext(frames)
    await frames.aclose()
    assert await asyncio.to_thread(server.ended.wait, 60)


def test_a_servers_url_is_taken_apart_and_its_head_names_the_host_and_the_token():
    remote = wire.address_of("https://apps.example.com/home/", "secret")
    plain = wire.address_of("http://[::1]:4670", "secret")

    assert ("apps.example.com", 443, True, "/home") == (
        remote.host,
        remote.port,
        remote.tls,
        remote.base,
    )
    assert "http://[::1]:4670" == str(plain)
    assert "secret" not in repr(remote)
    assert "/run/calls.sock" == wire.address_of("/run/calls.sock")
    with pytest.raises(ValueError, match="no host"):
        wire.address_of("http:///x")
    call, other = REQUEST.head(remote), Request("", b"", target="/v1/dicts").head(plain)
    assert call.startswith(
        b"POST /home/v1/calls?a=1 HTTP/1.1\r\nHost: apps.example.com:443\r\n"
        b"Authorization: Bearer secret\r\nX-Homeport-Call: call-0"
    )
    assert other.startswith(b"POST /v1/dicts HTTP/1.1\r\nHost: [::1]:4670\r\n")
    with pytest.raises(ValueError, match="end of a line"):
        REQUEST.head(wire.address_of("http://x", "a\r\nX-B: c"))


@pytest.fixture
def certified(tmp_path, monkeypatch):
    """A TLS server of `localhost` that answers OK to each connection; this process trusts its certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "server.pem"
    pem.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    address.tls.cache_clear()

    def serve():
        with contextlib.suppress(OSError):
            while True:
                plain, _ = listener.accept()
                with (
                    contextlib.suppress(OSError),
                    context.wrap_socket(plain, server_side=True) as one,
                ):
                    while b"body" not in one.recv(65536):
                        pass
                    one.sendall(OK)

    with socket.create_server(("localhost", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(60)
    blocking._own.connection and blocking._own.connection.close()
    blocking._own.connection = None
    address.tls.cache_clear()


def test_a_certificate_is_checked(certified):
    right = wire.address_of(f"https://localhost:{certified}", "x")
    wrong = wire.address_of(f"https://127.0.0.1:{certified}", "x")

    assert b"hello" == wire.ask(right, REQUEST).body
    assert b"hello" == asyncio.run(wire.ask_async(right, REQUEST)).body
    with pytest.raises(wire.Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
        wire.ask(wrong, REQUEST)
    with pytest.raises(wire.Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
        asyncio.run(wire.ask_async(wrong, REQUEST))
