"""Several byte strings as one: for keys and values that a request or an answer carries."""

from collections.abc import Iterable

MISSING = 0xFFFFFFFF  # in place of a length, for a missing value


def pack(parts: "Iterable[bytes | None]") -> bytes:
    """Return the parts, each after its length in 4 bytes, big endian; None is a length of `MISSING` alone.

    >>> pack([b"ab", None])
    b'\\x00\\x00\\x00\\x02ab\\xff\\xff\\xff\\xff'
    """
    found: list[bytes] = []
    for part in parts:
        found.append((MISSING if part is None else len(part)).to_bytes(4, "big"))
        if part is not None:
            found.append(part)
    return b"".join(found)


def unpack(data: bytes) -> "list[bytes | None]":
    """Return what `pack` got; `ValueError` if the data is something else.

    >>> unpack(pack([b"ab", None, b""]))
    [b'ab', None, b'']
    """
    found: list[bytes | None] = []
    at = 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        at += 4
        if at > len(data):
            raise ValueError("the last length is cut off")
        if size == MISSING:
            found.append(None)
            continue
        if at + size > len(data):
            raise ValueError("the last part is cut off")
        found.append(data[at : at + size])
        at += size
    return found


def values(data: bytes) -> "list[bytes]":
    """Return the parts, none of which is missing; `ValueError` if one is."""
    found = [part for part in unpack(data) if part is not None]
    if pack(found) != data:
        raise ValueError("a part is missing")
    return found
