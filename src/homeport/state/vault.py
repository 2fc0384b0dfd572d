"""Encrypts secrets at rest: AES-256-GCM with a key in a file beside the store, mode 0600.

Encryption protects a copy of the database (in PostgreSQL, for example). It does not protect against a person
who can read the home, because it has the key. In a file of `homeport backup` the key is under a passphrase.
"""

import contextlib
import hmac
import json
import logging
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from homeport import private
from homeport.contract.errors import StorageError
from homeport.durable import sync

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
NONCE_BYTES = 12  # NIST SP 800-38D, section 8.2

log = logging.getLogger(__name__)


class Vault:
    """Seals and opens the values of secrets.

    A key file that is damaged stops what needs it, with a `StorageError`, and nothing else.
    """

    def __init__(self, key_file: Path) -> None:
        self._file = key_file
        self._known = _key(key_file)
        if not self._known:
            log.error("%s is damaged: no secret can be read", key_file)

    @property
    def _key(self) -> bytes:
        if not self._known:
            raise StorageError(
                f"{self._file} is damaged: no secret can be read or written",
                hint="restore the file from a backup; without one, remove it, start the server, "
                "and create each secret again with `--force`",
            )
        return self._known

    def digest(self, text: str) -> str:
        """A keyed hash, so that the hashed text cannot be guessed from the store alone."""
        return hmac.digest(self._key, text.encode(), "sha256").hex()

    def seal(self, name: str, values: dict[str, str]) -> bytes:
        """The values, encrypted; `name` is authenticated, so that rows cannot be swapped."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = _cipher(self._key).encrypt(nonce, json.dumps(values).encode(), name.encode())
        return nonce + sealed

    def open(self, name: str, sealed: bytes) -> dict[str, str]:
        """Return the text that `seal` was given; `StorageError` if the key is another one."""
        cipher = _cipher(self._key)
        from cryptography.exceptions import InvalidTag  # see `_cipher`

        nonce, text = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
        try:
            values: dict[str, str] = json.loads(cipher.decrypt(nonce, text, name.encode()))
        except (InvalidTag, ValueError):  # another key, or a damaged row
            raise StorageError(
                f"the secret `{name}` cannot be decrypted with this home's key",
                hint="restore the file `vault.key`, or create the secret again with `--force`",
            ) from None
        return values


def _cipher(key: bytes) -> "AESGCM":
    # Imported here: a server without secrets needs none of it, and it takes 8 MiB.
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)


def _key(path: Path) -> bytes:
    """Return the key in a file, which is made if it does not exist; empty if the file holds something else."""
    if not path.exists():
        _make(path)
    try:
        key = bytes.fromhex(path.read_text().strip())
    except ValueError:
        return b""
    return key if len(key) == KEY_BYTES else b""


def _make(path: Path) -> None:
    """Write a new key through to the disk, unless another process has just written one."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        with private.created(part) as file:
            file.write(secrets.token_bytes(KEY_BYTES).hex().encode())
        with contextlib.suppress(FileExistsError):
            os.link(part, path)  # as `rename`, but never over another key
    finally:
        part.unlink(missing_ok=True)
    sync(path.parent)
