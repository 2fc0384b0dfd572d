"""`homeport trust` before there is a local CA."""

import pytest

from homeport.cli import trust
from homeport.contract.errors import BadRequest, NotFound, StorageError


def test_a_ca_that_is_not_made_yet_is_made_by_the_server(tmp_path):
    with pytest.raises(NotFound, match="no local CA yet") as missing:
        trust._read(tmp_path / "ca.pem", tls="local")
    assert "homeport up" in missing.value.hint


def test_without_tls_local_there_is_none(tmp_path):
    with pytest.raises(BadRequest, match="`tls` is `off`"):
        trust._read(tmp_path / "ca.pem", tls="off")


def test_a_file_that_is_no_certificate_is_not_printed(tmp_path):
    (tmp_path / "ca.pem").write_bytes(b"\xff")
    with pytest.raises(StorageError, match="cannot be read"):
        trust._read(tmp_path / "ca.pem", tls="local")
