"""Packs several byte strings into one: for keys and values that a request or an answer carries."""

from collections.abc import Iterable

MISSING = 0xFFFFFFFF  # in place of a length, for a missing value


def pack(parts: "Iterable[bytes | None]") -> bytes:
    """Return the parts, each after its length in 4 bytes, big endian; None is a length of `MISSING` alone.

    >>> pack([b"ab", None])
    b'\\x00\\x00\\x00\\x02ab\\xff\\xff\\xff\\xff'
    """
    packed: list[bytes] = []
    for part in parts:
        packed.append((MISSING if part is None else len(part)).to_bytes(4, "big"))
        if part is not None:
            packed.append(part)
    return b"".join(packed)


def unpack(data: bytes) -> "list[bytes | None]":
    """Return the parts that `pack` was given; `ValueError` if the data is something else.

    >>> unpack(pack([b"ab", None, b""]))
    [b'ab', None, b'']
    """
    parts: list[bytes | None] = []
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        at += 4
        if at > len(data):
            raise ValueError("the last length is cut off")
        if size == MISSING:
            parts.append(None)
            continue
        if at + size > len(data):
            raise ValueError("the last part is cut off")
        parts.append(data[at : at + size])
        at += size
    return parts


def values(data: bytes) -> "list[bytes]":
    """Return the parts, none of which is missing; `ValueError` if one is."""
    parts = [part for part in unpack(data) if part is not None]
    if pack(parts) != data:
        raise ValueError("a part is missing")
    return parts
