"""Containers trust this homeport's own CA beside those of their image."""

import os
import ssl
from pathlib import Path

import pytest

from homeport.node.images.made import Made
from homeport.node.images.trusted import VARIABLES, Trusted
from tests.certificates import Authority

OURS, THEIRS, OTHER = Authority(), Authority(), Authority()


@pytest.fixture
def ca(tmp_path):
    path = tmp_path / "ca.pem"
    path.write_text(OURS.text)
    return path


def image(*lowers: Path, key: str = "k") -> Made:
    return Made(key=key, python="/p", directory=Path("/d"), lowers=tuple(map(str, lowers)))


def layer(root: Path, **files: str) -> Path:
    """Make a layer with these files below `etc/`."""
    for name, text in files.items():
        path = root / "etc" / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".crt").write_text(text)
    return root


def names(variables: dict[str, str]) -> set[str]:
    """Return which of the CAs are in the bundle that the variables name."""
    (path,) = set(variables.values())
    context = ssl.create_default_context(cafile=path)
    found = context.get_ca_certs(binary_form=True)
    known = {"ours": OURS, "theirs": THEIRS, "other": OTHER}
    return {n for n, a in known.items() if ssl.PEM_cert_to_DER_cert(a.text) in found}


def test_the_bundle_has_the_cas_of_the_upper_layer_and_ours(ca, tmp_path):
    low = layer(tmp_path / "low", ssl__certs__ca=OTHER.text)
    (low / "etc/ssl/certs/ca.crt").rename(low / "etc/ssl/certs/ca-certificates.crt")
    top = layer(tmp_path / "top", ssl__certs__ca=THEIRS.text)
    (top / "etc/ssl/certs/ca.crt").rename(top / "etc/ssl/certs/ca-certificates.crt")
    variables = Trusted(ca, tmp_path).variables(image(low, top), {})

    assert set(VARIABLES) == set(variables)
    assert {"ours", "theirs"} == names(variables)
    assert 0o644 == Path(variables["SSL_CERT_FILE"]).stat().st_mode & 0o777


def test_a_link_of_an_image_brings_no_file_of_this_machine(ca, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text(OTHER.text)
    folder = tmp_path / "layer/etc/ssl/certs"
    folder.mkdir(parents=True)
    (folder / "ca-certificates.crt").symlink_to(secret)
    variables = Trusted(ca, tmp_path).variables(image(tmp_path / "layer"), {})

    assert {"ours"} == names(variables)


def test_a_variable_that_the_image_or_a_secret_sets_stays(ca, tmp_path, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "machine.pem"))
    (tmp_path / "machine.pem").write_text(THEIRS.text)
    environ = {"REQUESTS_CA_BUNDLE": "/their/own.pem", "SSL_CERT_FILE": os.environ["SSL_CERT_FILE"]}
    variables = Trusted(ca, tmp_path).variables(image(), environ)

    assert {"SSL_CERT_FILE", "CURL_CA_BUNDLE"} == set(variables)
    assert {"ours", "theirs"} == names(variables)


def test_there_is_nothing_before_there_is_a_ca_and_a_new_one_is_noticed(tmp_path):
    trusted, path = Trusted(tmp_path / "ca.pem", tmp_path), tmp_path / "ca.pem"
    before = trusted.variables(image(), {})
    path.write_text(THEIRS.text)
    first = names(trusted.variables(image(), {}))
    path.unlink()
    path.write_text(OURS.text)
    second = names(trusted.variables(image(), {}))

    assert ({}, {"theirs"}, {"ours"}) == (before, first, second)
    assert {} == Trusted(None, tmp_path).variables(image(), {})
