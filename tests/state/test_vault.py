"""The key of all secrets: made once, whole, and never replaced."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from homeport.contract.errors import StorageError
from homeport.state.vault import Vault


def test_a_key_is_made_once_and_only_its_owner_can_read_it(tmp_path):
    path = tmp_path / "vault.key"
    sealed = Vault(path).seal("db", {"PASSWORD": "x"})

    assert {"PASSWORD": "x"} == Vault(path).open("db", sealed)
    assert 0o600 == path.stat().st_mode & 0o777
    assert ["vault.key"] == os.listdir(tmp_path)


def test_a_key_that_another_process_has_written_meanwhile_is_used_and_stays(tmp_path, monkeypatch):
    path, fsync = tmp_path / "vault.key", os.fsync

    def late(descriptor: int) -> None:
        fsync(descriptor)
        if not path.exists():
            path.write_text("ab" * 32)

    monkeypatch.setattr(os, "fsync", late)
    digest = Vault(path).digest("x")
    monkeypatch.undo()

    assert "ab" * 32 == path.read_text()
    assert digest == Vault(path).digest("x")


def test_servers_that_start_at_once_have_the_same_key(tmp_path):
    path = tmp_path / "vault.key"
    with ThreadPoolExecutor(8) as pool:
        digests = set(pool.map(lambda _: Vault(path).digest("x"), range(40)))

    assert 1 == len(digests)
    assert ["vault.key"] == os.listdir(tmp_path)


@pytest.mark.parametrize("text", ["", "\n", "abc", "zz" * 32, "00" * 31, "00" * 33, "\0" * 64])
def test_a_damaged_key_is_named_and_never_replaced(tmp_path, text):
    path = tmp_path / "vault.key"
    path.write_text(text)
    vault = Vault(path)
    with pytest.raises(StorageError, match="is damaged"):
        vault.seal("db", {})
    with pytest.raises(StorageError, match="is damaged"):
        vault.open("db", b"")

    assert text == path.read_text()


@pytest.mark.parametrize("sealed", [b"", b"short", b"x" * 100])
def test_a_damaged_secret_is_named(tmp_path, sealed):
    with pytest.raises(StorageError, match="the secret `db` cannot be decrypted"):
        Vault(tmp_path / "vault.key").open("db", sealed)
