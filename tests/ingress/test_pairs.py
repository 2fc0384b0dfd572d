"""Which certificates are taken for HAProxy, which would not start with another one."""

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa

from homeport.contract.errors import BadRequest
from homeport.ingress import pairs
from tests.certificates import UNUSUAL, Authority

AUTHORITY = Authority()
A, B = "a.localhost", "*.b.localhost"


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP256R1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65537, 2048),
    ],
    ids=lambda key: type(key).__name__,
)
def test_a_usual_key_is_taken_with_the_names_of_its_certificate(key):
    pair = pairs.read(AUTHORITY.pem("A.localhost", B, A, key=key), [A, "x.b.localhost"])

    assert (A, B) == pair.names
    assert pair == pairs.read(pair.pem)


@pytest.mark.parametrize(
    ("key", "why"),
    [
        (rsa.generate_private_key(65537, 1024), "needs 2048 bits, and this one has 1024"),
        (ed448.Ed448PrivateKey.generate(), "is RSA, an elliptic curve's or Ed25519"),
    ],
    ids=["RSA of 1024 bits", "Ed448"],
)
def test_a_key_that_haproxy_would_refuse_is_refused(key, why):
    with pytest.raises(BadRequest, match=why):
        pairs.read(AUTHORITY.pem(A, key=key))


def test_a_key_under_a_passphrase_is_refused_with_what_to_do():
    key = ec.generate_private_key(ec.SECP256R1())
    pem = AUTHORITY.pem(A, key=key)
    sealed = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"passphrase"),
    )
    with pytest.raises(BadRequest, match="is encrypted") as caught:
        pairs.read(sealed + pem[pem.index(b"-----BEGIN CERTIFICATE") :])

    assert "passphrase" in caught.value.hint


@pytest.mark.parametrize("kind", UNUSUAL)
def test_an_unusual_certificate_is_refused_and_nothing_else_fails(kind):
    with pytest.raises(BadRequest, match="cannot be read"):
        pairs.read(AUTHORITY.unusual(kind))


@pytest.mark.parametrize("names", [("a b",), ("a;help",), ("*.*.localhost",), ("a\n",)])
def test_a_name_that_is_no_host_is_left_out(names):
    with pytest.raises(BadRequest, match="for no host name"):
        pairs.read(AUTHORITY.pem(*names))

    assert (A,) == pairs.read(AUTHORITY.pem(*names, A)).names


def test_nothing_that_its_author_wrote_beside_it_reaches_haproxy():
    pem = AUTHORITY.pem(A)
    noisy = b"Bag Attributes: x\n; show info\n" + pem + b"\n\nadd map hosts.map x y\n"

    assert pairs.read(pem).pem == pairs.read(noisy).pem
    assert b"show" not in pairs.read(noisy).pem
