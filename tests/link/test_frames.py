"""Frames: any bytes are a frame, an end, or a fault, and none of them fills the memory."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.link import frames
from homeport.link.frames import Broken

ENDS = (Broken, EOFError)


def fed(*parts: bytes, end: bool = True) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    for part in parts:
        reader.feed_data(part)
    if end:
        reader.feed_eof()
    return reader


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=5))
def test_frames_are_read_in_the_order_in_which_they_were_written(bodies):
    async def story():
        reader = fed(*map(frames.framed, bodies))
        assert bodies == [await frames.read(reader) for _ in bodies]
        with pytest.raises(EOFError):
            await frames.read(reader)

    asyncio.run(story())


@given(st.binary(max_size=600))
def test_any_bytes_are_frames_and_then_an_end_or_a_fault(data):
    async def story():
        reader, read = fed(data), 0
        with pytest.raises(ENDS):
            while True:
                body = await frames.read(reader, 200)
                read += frames.HEAD_BYTES + len(body)
                assert 0 < len(body) <= 200
        assert read <= len(data)

    asyncio.run(story())


@pytest.mark.parametrize("head", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x01\0\0\1", b"GET "])
async def test_a_frame_that_is_empty_or_too_long_is_refused_before_it_is_read(head):
    with pytest.raises(Broken, match="a message of"):
        await frames.read(fed(head, end=False))


async def test_a_silent_peer_and_one_that_stops_in_the_middle_are_given_up(monkeypatch):
    monkeypatch.setattr(frames, "BODY_S", 0.05)
    for part in (b"", b"\0\0", b"\0\0\0\5abc"):
        with pytest.raises(TimeoutError):
            await frames.read(fed(part, end=False), silent_s=0.05)


def test_a_message_that_no_peer_would_take_is_not_sent():
    with pytest.raises(Broken, match="too long to be sent"):
        frames.framed(b"x" * (frames.MAX_BYTES + 1))
