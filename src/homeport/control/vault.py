"""Secrets at rest: AES-256-GCM under a key that sits beside the store, mode 0600.

The key guards against a copied database or a backup, not against whoever can read the home.
"""

import hmac
import json
import os
import secrets
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from homeport.contract.errors import StorageError

NONCE_BYTES = 12  # NIST SP 800-38D, section 8.2


class Vault:
    """Seals and opens the values of secrets."""

    def __init__(self, key_file: Path) -> None:
        self._key = _key(key_file)
        self._cipher = AESGCM(self._key)

    def digest(self, text: str) -> str:
        """A keyed hash, so that what it covers cannot be guessed from the store alone."""
        return hmac.digest(self._key, text.encode(), "sha256").hex()

    def seal(self, name: str, values: dict[str, str]) -> bytes:
        """The values, encrypted; `name` is authenticated, so that rows cannot be swapped."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, json.dumps(values).encode(), name.encode())

    def open(self, name: str, sealed: bytes) -> dict[str, str]:
        """What `seal` was given; `StorageError` where the key is another one."""
        nonce, text = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
        try:
            values: dict[str, str] = json.loads(self._cipher.decrypt(nonce, text, name.encode()))
        except InvalidTag:
            raise StorageError(
                f"the secret `{name}` cannot be decrypted with this home's key",
                hint="restore the file `vault.key`, or create the secret again with `--force`",
            ) from None
        return values


def _key(path: Path) -> bytes:
    try:
        return bytes.fromhex(path.read_text().strip())
    except FileNotFoundError:
        key = AESGCM.generate_key(bit_length=256)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(key.hex())
        return key
