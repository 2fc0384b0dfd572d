"""Frames: a message is its length in 4 bytes, big endian, and then that many bytes of JSON.

A frame that is longer than the reader allows ends the connection before any of it is read. So a peer cannot
make the reader keep more than it has sent, nor more than `most`.
"""

import asyncio

HEAD_BYTES = 4
MAX_BYTES = 16 * 2**20  # a list of 4,000 containers
FIRST_MAX_BYTES = 64 * 2**10  # before the peer has shown who it is
SILENT_S = 5.0  # a peer sends at least a beat each second
BODY_S = 20.0  # for the rest of a frame after its length


class Broken(Exception):
    """The peer broke the protocol; the text says how."""


def in_words(error: BaseException) -> str:
    """Return in words why a connection ended."""
    if isinstance(error, TimeoutError):
        return "the peer is silent"
    if isinstance(error, EOFError):
        return "the peer has hung up"
    return str(error) or type(error).__name__


def framed(body: bytes) -> bytes:
    """Return a frame with this body."""
    if len(body) > MAX_BYTES:
        raise Broken(f"a message of {len(body)} bytes is too long to be sent")
    return len(body).to_bytes(HEAD_BYTES, "big") + body


async def read(
    reader: asyncio.StreamReader, most: int = MAX_BYTES, *, silent_s: float = SILENT_S
) -> bytes:
    """Return the body of the next frame.

    Raises `Broken` for a frame that is empty or longer than `most`, `EOFError` after the end of the connection,
    and `TimeoutError` if nothing comes for `silent_s`, or if the frame is not whole after `BODY_S`.
    """
    async with asyncio.timeout(silent_s):
        size = int.from_bytes(await reader.readexactly(HEAD_BYTES), "big")
    if not 0 < size <= most:
        raise Broken(f"a message of {size} bytes; at most {most} are allowed")
    async with asyncio.timeout(BODY_S):
        return await reader.readexactly(size)
