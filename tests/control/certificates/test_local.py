"""The local CA, and what OpenSSL thinks of its certificates."""

import socket
import ssl
import stat
import threading

import pytest
from cryptography import x509

from homeport.contract.errors import BadRequest, StorageError
from homeport.control.certificates import local
from homeport.control.certificates.local import Local


@pytest.fixture
def make(tmp_path):
    """Make the CA of a home with this domain."""

    def make(domain: str = "localhost") -> Local:
        ca = Local(tmp_path / "local-ca" / "ca.pem", domain)
        ca.open()
        return ca

    return make


def accepts(ca: Local, pem: bytes, host: str, tmp_path) -> bool:
    """Return whether a client that trusts the CA accepts a server with this certificate."""
    path = tmp_path / "server.pem"
    path.write_bytes(pem)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    here, there = socket.socketpair()

    def serve() -> None:
        try:
            server.wrap_socket(there, server_side=True).close()
        except OSError:
            there.close()

    thread = threading.Thread(target=serve)
    thread.start()
    context = ssl.create_default_context(cafile=ca.certificate)
    try:
        context.wrap_socket(here, server_hostname=host).close()
    except ssl.SSLError:
        return False
    else:
        return True
    finally:
        here.close()
        thread.join()


async def test_a_client_that_trusts_the_ca_accepts_its_certificates(make, tmp_path):
    ca = make("apps.example.com")
    pem = await ca.issue(("a.localhost", "*.apps.example.com", "shop.test"))

    assert accepts(ca, pem, "a.localhost", tmp_path)
    assert accepts(ca, pem, "b.apps.example.com", tmp_path)
    assert not accepts(ca, pem, "b.localhost", tmp_path)


async def test_the_ca_signs_for_no_foreign_name_and_a_client_would_refuse_it(
    make, tmp_path, monkeypatch
):
    ca = make()
    for host in ("example.com", "localhost.example.com", "*.com", "xlocalhost"):
        with pytest.raises(BadRequest, match="may not sign"):
            await ca.issue(("a.localhost", host))
    monkeypatch.setattr(local, "permitted", lambda _host, _domain: True)
    stolen = await ca.issue(("example.com",))

    assert not accepts(ca, stolen, "example.com", tmp_path)


async def test_the_key_is_its_owners_and_the_ca_stays_while_its_domain_does(make):
    ca = make()
    before = ca.certificate.read_bytes()
    files = sorted(path for path in ca.certificate.parent.iterdir())

    assert ["ca.key", "ca.pem"] == [path.name for path in files]
    assert [0o600, 0o600] == [stat.S_IMODE(path.stat().st_mode) for path in files]
    assert before == make().certificate.read_bytes()
    assert before == make("sub.test").certificate.read_bytes()
    assert before != make("apps.example.com").certificate.read_bytes()


@pytest.mark.parametrize("name", ["ca.key", "ca.pem"])
def test_a_damaged_ca_is_made_anew(make, name):
    ca = make()
    before = ca.certificate.read_bytes()
    (ca.certificate.parent / name).write_text("nothing")

    assert before != make().certificate.read_bytes()


def test_a_home_that_cannot_be_written_is_an_error_of_the_users(tmp_path):
    (tmp_path / "local-ca").write_text("a file")
    with pytest.raises(StorageError, match="cannot be kept"):
        Local(tmp_path / "local-ca" / "ca.pem", "localhost").open()


async def test_a_certificate_lives_for_90_days_and_says_what_it_is_for(make):
    ca = make()
    text = (await ca.issue(("a.localhost",))).partition(b"-----BEGIN CERT")
    certificate = x509.load_pem_x509_certificate(b"".join(text[1:]))
    lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc

    assert 90 == lifetime.days
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
