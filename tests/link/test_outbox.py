"""The two lanes of a connection."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.link.outbox import Full, Outbox


async def test_a_command_leaves_before_a_flood_that_was_there_first():
    outbox = Outbox()
    for number in range(100):
        outbox.put(b"line %d" % number, bulk=True)
    outbox.put(b"stop")
    outbox.put(b"start")

    assert [b"stop", b"start", b"line 0", b"line 1"] == [await outbox.take() for _ in range(4)]


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=40), st.booleans())))
def test_waiting_frames_never_exceed_the_lanes_whatever_comes(puts):
    async def story():
        outbox, refused = Outbox(urgent_bytes=100, bulk_bytes=50), 0
        for frame, bulk in puts:
            try:
                outbox.put(frame, bulk=bulk)
            except Full:
                refused += 1
            assert outbox.waiting_bytes <= 150
        left = [await outbox.take() for _ in range(len(puts) - refused)]
        assert 0 == outbox.waiting_bytes
        assert len(left) + refused == len(puts)

    asyncio.run(story())


async def test_a_frame_that_is_longer_than_the_lane_may_wait_alone():
    outbox = Outbox(urgent_bytes=10)
    outbox.put(b"x" * 20)
    with pytest.raises(Full):
        outbox.put(b"y")

    assert b"x" * 20 == await outbox.take()


async def test_a_reader_of_an_empty_outbox_waits_for_the_next_frame():
    outbox = Outbox()
    taking = asyncio.create_task(outbox.take())
    await asyncio.sleep(0)
    assert not taking.done()
    outbox.put(b"now")

    assert b"now" == await taking
