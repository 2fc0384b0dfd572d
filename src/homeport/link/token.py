"""A join token: the CA that a machine must find, and a secret that lets one machine join, once.

    homeport-node-<SHA-256 of the CA's certificate>-<secret>

The control plane keeps only the secret's digest. The secret is sent after the CA was compared with the fingerprint, so
nobody between the two machines can read it.
"""

import hashlib
import re
import secrets
from dataclasses import field

from homeport.contract.dataclass import dataclass
from homeport.contract.errors import BadRequest

_TOKEN = re.compile(r"homeport-node-([0-9a-f]{64})-([0-9a-f]{64})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """Both parts."""

    fingerprint: str
    secret: str = field(repr=False)


def make(fingerprint: str) -> tuple[str, str]:
    """Return a new token, and its digest.

    >>> text, kept = make("0" * 64)
    >>> digest(parse(text).secret) == kept
    True
    """
    secret = secrets.token_hex(32)
    return f"homeport-node-{fingerprint}-{secret}", digest(secret)


def parse(text: str) -> Token:
    """Return the parts of a token; `BadRequest`, without the token in it, for any other text."""
    if not (match := _TOKEN.fullmatch(text.strip())):
        raise BadRequest(
            "this is not a token for a node", hint="`homeport node token` makes one; copy all of it"
        )
    return Token(fingerprint=match[1], secret=match[2])


def digest(secret: str) -> str:
    """Return what is kept of a secret."""
    return hashlib.sha256(secret.encode()).hexdigest()
