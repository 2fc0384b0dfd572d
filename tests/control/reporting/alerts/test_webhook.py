"""Messages to webhooks, with a real HTTPS server; and the addresses that only the server's owner may name."""

import contextlib
import hashlib
import hmac
import http.server
import ssl

import pytest

from homeport.contract.errors import BadRequest
from homeport.control.reporting.alerts import webhook
from homeport.control.reporting.alerts.webhook import Undelivered, Webhooks, check, is_public
from tests import web
from tests.certificates import Authority


class Receiver:
    """An HTTP or HTTPS server that keeps what it gets, and answers with `status`."""

    def __init__(self, pem=None) -> None:
        self.got: list[tuple[str, dict, bytes]] = []
        self.status = 200
        self.location = ""
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append((self.path, dict(self.headers), body))
                self.send_response(receiver.status)
                if receiver.location:
                    self.send_header("Location", receiver.location)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if pem is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pem)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_address[1]


@contextlib.contextmanager
def receiving(pem=None):
    receiver = Receiver(pem)
    with web.serving(receiver.server):
        yield receiver


@pytest.fixture(scope="module")
def authority():
    return Authority()


@pytest.fixture
def secure(authority, tmp_path):
    """An HTTPS receiver for `hook.test`, and the context that trusts its authority."""
    pem = tmp_path / "pem"
    pem.write_bytes(authority.pem("hook.test"))
    with receiving(pem) as receiver:
        yield receiver, ssl.create_default_context(cadata=authority.text)


def leading_to(*addresses: str):
    async def resolve(host: str, _port: int):
        assert host == "hook.test"
        return addresses

    return resolve


async def test_a_message_is_signed_and_arrives_as_it_is():
    with receiving() as receiver:
        url = f"http://127.0.0.1:{receiver.port}/hook?x=1"
        await Webhooks().send(url, b'{"a": 1}', "sesame", trusted=True)
        ((path, fields, body),) = receiver.got

    wanted = hmac.new(b"sesame", b'{"a": 1}', hashlib.sha256).hexdigest()
    assert ("/hook?x=1", b'{"a": 1}', f"sha256={wanted}") == (
        path,
        body,
        fields["Homeport-Signature"],
    )
    assert ("application/json", f"127.0.0.1:{receiver.port}") == (
        fields["Content-Type"],
        fields["Host"],
    )


@pytest.mark.parametrize("status", [301, 307, 400, 500])
async def test_a_message_that_is_not_accepted_is_not_delivered_and_no_redirect_is_followed(status):
    with receiving() as receiver, receiving() as other:
        receiver.status = status
        receiver.location = f"http://127.0.0.1:{other.port}/"
        with pytest.raises(Undelivered, match=str(status)):
            await Webhooks().send(f"http://127.0.0.1:{receiver.port}/", b"", "s", trusted=True)

        assert [] == other.got


async def test_a_certificate_must_be_of_the_name_that_was_asked(secure, monkeypatch):
    receiver, trusts = secure
    monkeypatch.setattr(webhook, "is_public", lambda _address: True)
    webhooks = Webhooks(leading_to("127.0.0.1"), trusts)
    await webhooks.send(f"https://hook.test:{receiver.port}/", b"x", "s", trusted=False)
    assert f"hook.test:{receiver.port}" == receiver.got[0][1]["Host"]

    async def resolve(_host, _port):
        return ["127.0.0.1"]

    for other in (Webhooks(resolve, trusts), Webhooks(resolve)):
        with pytest.raises(Undelivered, match="CERTIFICATE_VERIFY_FAILED"):
            await other.send(f"https://other.test:{receiver.port}/", b"x", "s", trusted=False)

    assert 1 == len(receiver.got)


@pytest.mark.parametrize(
    "addresses",
    [
        ("127.0.0.1",),
        ("169.254.169.254",),
        ("10.0.0.1",),
        ("::1",),
        ("fe80::1%eth0",),
        ("fd00:ec2::254",),
        ("::ffff:127.0.0.1",),
        ("64:ff9b::7f00:1",),
        ("2002:7f00:1::",),
        ("0.0.0.0",),
        ("224.0.0.1",),
        ("100.64.0.1",),
        ("93.184.215.14", "127.0.0.1"),
        (),
    ],
)
async def test_a_workspace_reaches_nothing_but_the_internet(secure, addresses):
    receiver, trusts = secure
    webhooks = Webhooks(leading_to(*addresses), trusts)
    with pytest.raises(Undelivered, match="not one of the internet"):
        await webhooks.send(f"https://hook.test:{receiver.port}/", b"x", "s", trusted=False)

    assert [] == receiver.got
    assert not all(map(is_public, addresses)) or not addresses


async def test_a_webhook_without_a_port_has_that_of_https():
    asked = []

    async def resolve(host: str, port: int):
        asked.append((host, port))
        return ()

    for netloc in ("hook.test", "hook.test:8443"):
        with pytest.raises(Undelivered):
            await Webhooks(resolve).send(f"https://{netloc}/", b"x", "s", trusted=False)

    assert [("hook.test", 443), ("hook.test", 8443)] == asked


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "0x7f000001", "2130706433", "127.1"])
async def test_a_workspace_reaches_no_own_address_by_any_spelling(host):
    with receiving() as receiver, pytest.raises(Undelivered):
        await Webhooks().send(f"https://{host}:{receiver.port}/", b"x", "s", trusted=False)

    assert [] == receiver.got


@pytest.mark.parametrize(
    ("url", "trusted"),
    [
        ("http://hook.test/", False),
        ("ftp://hook.test/", True),
        ("https://", True),
        ("https://me:key@hook.test/", True),
        ("https://hook.test/a b", True),
        ("https://hook.test/\r\nX: y", True),
        ("https://hook.test:99999/", True),
        ("https://h\u00f6ok.test/", True),
        ("file:///etc/passwd", True),
        ("https://hook.test/" + "x" * 2000, True),
        ("", True),
    ],
)
def test_a_text_that_is_no_url_of_a_webhook_is_refused(url, trusted):
    with pytest.raises(BadRequest):
        check(url, trusted=trusted)


@pytest.mark.parametrize("host", ["nobody.invalid", "a..b", ".hook.test", "x" * 64 + ".test"])
async def test_a_host_that_nobody_has_is_not_delivered(host):
    """Some texts are not names at all, and Python raises another error for them."""
    with pytest.raises(Undelivered):
        await Webhooks().send(f"https://{host}/", b"", "s", trusted=False)
    with pytest.raises(Undelivered):
        await Webhooks(leading_to("127.0.0.1")).send(f"https://{host}/", b"", "s", trusted=True)
