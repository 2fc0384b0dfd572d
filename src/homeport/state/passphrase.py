"""Protects the private part of a backup by a passphrase: scrypt makes two keys, AES-256-GCM encrypts.

The second key signs a digest of the whole backup, so a part of it cannot be changed without the passphrase.
The costs of scrypt are OWASP's (Password Storage Cheat Sheet: N = 2^17, r = 8, p = 1: 128 MiB for one try).
"""

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from homeport.contract.dataclass import dataclass
from homeport.contract.errors import BadRequest

KEY_BYTES, NONCE_BYTES, SALT_BYTES = 32, 12, 16
COST = 2**17
MAX_MEMORY = 2**30  # bytes that a file may make scrypt use: 128 · N · r
SHORTEST = 8  # characters
ABOUT = b"homeport backup"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """The data about its passphrase in a backup: the salt in hex, and the costs."""

    salt: str
    n: int = COST
    r: int = 8
    p: int = 1

    @staticmethod
    def new() -> "Lock":
        """Return a lock with a salt of its own."""
        return Lock(salt=secrets.token_hex(SALT_BYTES))

    @staticmethod
    def read(data: Mapping[str, Any]) -> "Lock":
        """Return the lock that a file describes; `ValueError` if its costs are no sensible ones."""
        lock = Lock(salt=str(data["salt"]), n=int(data["n"]), r=int(data["r"]), p=int(data["p"]))
        sensible = 2 <= lock.n and lock.n & (lock.n - 1) == 0 and 1 <= lock.r and lock.p == 1
        if not sensible or 128 * lock.n * lock.r > MAX_MEMORY:
            raise ValueError("its passphrase has other costs than homeport uses")
        if len(bytes.fromhex(lock.salt)) != SALT_BYTES:
            raise ValueError("its passphrase has another salt than homeport makes")
        return lock

    def as_dict(self) -> dict[str, Any]:
        """Return it as a dictionary, for the file."""
        return asdict(self)

    def keys(self, passphrase: str) -> "Keys":
        """Return the keys that a passphrase makes; 0.3 s of a core."""
        kdf = Scrypt(
            salt=bytes.fromhex(self.salt), length=2 * KEY_BYTES, n=self.n, r=self.r, p=self.p
        )
        derived = kdf.derive(passphrase.encode("utf-8", "surrogateescape"))
        return Keys(derived[:KEY_BYTES], derived[KEY_BYTES:])


class Keys:
    """Encrypts and signs."""

    def __init__(self, cipher: bytes, signing: bytes) -> None:
        self._cipher, self._signing = AESGCM(cipher), signing

    def seal(self, plain: bytes) -> bytes:
        """Return the text, encrypted."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, plain, ABOUT)

    def open(self, sealed: bytes) -> bytes:
        """Return the text that `seal` was given; `BadRequest` for the keys of another passphrase."""
        try:
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], ABOUT)
        except (InvalidTag, ValueError):
            raise BadRequest(
                "the passphrase is wrong, or the backup is damaged",
                hint="nothing has been changed; try again with the passphrase that the backup was made with",
            ) from None

    def sign(self, digest: str) -> str:
        """Return the signature of a digest."""
        return hmac.digest(self._signing, digest.encode(), "sha256").hex()

    def check(self, digest: str, signature: str) -> bool:
        """Return whether these keys signed the digest."""
        return hmac.compare_digest(self.sign(digest), signature)


def check_new(passphrase: str) -> None:
    """Raise `BadRequest` for a passphrase that is too short for a new backup."""
    if len(passphrase) < SHORTEST:
        raise BadRequest(f"the passphrase is too short: {SHORTEST} characters or more are needed")
