"""The cluster's CA, its certificates, and the names in them."""

import datetime as dt
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from homeport.contract.errors import BadRequest, StorageError
from homeport.link import authority, identity, token
from homeport.link.authority import Authority
from homeport.link.identity import Identity

NODE = Identity(name="worker-1", id="0123456789abcdef" * 2)


@pytest.fixture
def ca(tmp_path):
    made = Authority(tmp_path / "cluster")
    made.open()
    return made


def test_a_ca_is_made_once_and_its_keys_are_for_nobody_else(ca, tmp_path):
    again = Authority(tmp_path / "cluster")
    again.open()

    assert ca.fingerprint == again.fingerprint == authority.fingerprint(ca.pem)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "cluster").iterdir()}
    assert {"ca.key": 0o600, "ca.pem": 0o600, "control.pem": 0o600} == modes


def test_of_a_text_with_two_certificates_only_the_pinned_one_is_kept(ca, tmp_path):
    other = Authority(tmp_path / "other")
    other.open()

    assert ca.pem.encode() == authority.pinned(ca.pem + other.pem, ca.fingerprint)
    assert None is authority.pinned(other.pem + ca.pem, ca.fingerprint)


@pytest.mark.parametrize("name", ["ca.key", "ca.pem"])
@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN CERTIFICATE-----\n"])
def test_a_damaged_ca_is_never_replaced_by_a_new_one(ca, tmp_path, name, content):
    path = tmp_path / "cluster" / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StorageError, match="is damaged"):
        Authority(tmp_path / "cluster").open()

    assert content == (path.read_bytes() if path.exists() else None)


def test_the_key_of_another_ca_is_damage(ca, tmp_path):
    other = Authority(tmp_path / "other")
    other.open()
    (tmp_path / "cluster" / "ca.key").write_bytes((tmp_path / "other" / "ca.key").read_bytes())
    with pytest.raises(StorageError, match="another one's"):
        Authority(tmp_path / "cluster").open()


def test_a_certificate_has_the_name_that_was_given_and_nothing_of_the_request(ca):
    key = ec.generate_private_key(ec.SECP256R1())
    evil = x509.DNSName("worker-2.node.homeport.internal")
    csr = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "worker-2")]))
        .add_extension(x509.SubjectAlternativeName([evil]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
        .decode()
    )
    made = x509.load_pem_x509_certificate(ca.sign(csr, NODE).encode())
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    basic = made.extensions.get_extension_for_class(x509.BasicConstraints).value

    assert [NODE.host, NODE.containers] == names.get_values_for_type(x509.DNSName)
    assert not basic.ca
    assert "worker-2" not in made.subject.rfc4514_string()


def pem(key, algorithm=hashes.SHA256) -> str:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    made = builder.sign(key, algorithm() if algorithm else None)
    return made.public_bytes(serialization.Encoding.PEM).decode()


def tampered() -> str:
    """Return a request whose signature is another request's."""
    a, b = (
        x509.load_pem_x509_csr(pem(ec.generate_private_key(ec.SECP256R1())).encode())
        for _ in range(2)
    )
    der = bytearray(a.public_bytes(serialization.Encoding.DER))
    other = b.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    mine = a.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    der = bytes(der).replace(mine, other)
    return ssl.DER_cert_to_PEM_cert(der).replace("CERTIFICATE", "CERTIFICATE REQUEST")


@pytest.mark.parametrize(
    "csr",
    [
        pytest.param(lambda: "", id="nothing"),
        pytest.param(lambda: "-----BEGIN CERTIFICATE REQUEST-----\n", id="half"),
        pytest.param(lambda: "x" * 10_000, id="long"),
        pytest.param(lambda: pem(ec.generate_private_key(ec.SECP521R1())), id="another curve"),
        pytest.param(lambda: pem(rsa.generate_private_key(65537, 1024)), id="a weak RSA key"),
        pytest.param(lambda: pem(ed25519.Ed25519PrivateKey.generate(), None), id="another kind"),
        pytest.param(tampered, id="a signature of another key"),
    ],
)
def test_a_request_that_is_not_as_ours_is_refused(ca, csr):
    with pytest.raises(BadRequest, match="the request for a certificate"):
        ca.sign(csr(), NODE)


def test_the_certificate_of_a_pair_comes_without_its_key(ca):
    key, csr = authority.request()
    certificate = ca.sign(csr, NODE).encode()

    assert certificate == authority.certificate_of(key + certificate)
    with pytest.raises(ValueError, match="not found"):
        authority.certificate_of(key)


def test_a_certificate_is_renewed_when_half_of_its_time_has_passed(ca):
    _, csr = authority.request()
    certificate = ca.sign(csr, NODE, days=10).encode()
    now, near = dt.datetime.now(dt.UTC), dt.timedelta(minutes=5)

    assert abs(authority.renew_after(certificate) - now - dt.timedelta(days=5)) < near
    assert abs(authority.valid_until(certificate) - now - dt.timedelta(days=10)) < near


@pytest.mark.parametrize("name", ["a", "worker-1", "a" * 40, "0"])
def test_a_valid_name_of_a_node_is_taken_and_read_from_its_certificate(name):
    told = {"subjectAltName": (("DNS", Identity(name=name, id="a" * 32).host),)}

    assert name == identity.check_name(name)
    assert Identity(name=name, id="a" * 32) == identity.of_certificate(told)


@pytest.mark.parametrize("name", ["", "here", "A", "-a", "a-", "a.b", "a" * 41, "é", "a b", "a\n"])
def test_a_text_that_cannot_be_the_name_of_a_node_is_refused(name):
    with pytest.raises(BadRequest, match="cannot be the name of a node"):
        identity.check_name(name)

    told = {"subjectAltName": (("DNS", f"{name}.{'a' * 32}.{identity.DOMAIN}"),)}
    assert identity.of_certificate(told) is None


@pytest.mark.parametrize(
    "told",
    [
        None,
        {},
        {"subjectAltName": (("DNS", identity.CONTROL),)},
        {"subjectAltName": (("URI", NODE.host),)},
        {"subjectAltName": (("DNS", NODE.host), ("DNS", NODE.host.replace("-1", "-2")))},
        {"subjectAltName": (("DNS", f"{NODE.host}.example.com"),)},
        {"subjectAltName": (("DNS", f"worker-1.{identity.DOMAIN}"),)},
        {"subjectAltName": (("DNS", f"x.{NODE.host}"),)},
    ],
)
def test_any_other_certificate_is_no_nodes(told):
    assert identity.of_certificate(told) is None


@given(st.text(max_size=200))
def test_any_other_text_is_no_token_and_is_not_shown(text):
    with pytest.raises(BadRequest) as refused:
        token.parse(text)

    assert "this is not a token for a node" == refused.value.message
