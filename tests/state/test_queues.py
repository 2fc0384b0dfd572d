"""Queues in a real database: order, partitions, waiting, and callers that leave."""

import asyncio
import itertools

import pytest

from homeport.contract.errors import BadRequest, NotFound, TooMany
from homeport.state import queues as module
from homeport.state.queues import Queues
from tests.waiting import until

LONG_S = 60.0


@pytest.fixture
async def queues(database):
    queues = Queues(database)
    await queues.load()
    await queues.objects.create("q")
    return queues


def numbers(start: int, end: int) -> list[bytes]:
    return [b"%d" % n for n in range(start, end)]


async def looked(queues: Queues, **where) -> list[bytes]:
    found, after = [], 0
    while True:
        page, after = await queues.page("q", after=after, **where)
        if not page:
            return found
        found += page


async def waits(queues: Queues) -> None:
    """Return when a caller waits for a value."""
    await until(lambda: queues._values.waiting, "a caller that waits")


async def test_a_queue_returns_values_in_the_order_in_which_they_came(queues):
    await queues.put("q", numbers(0, 3))
    await queues.put("q", numbers(3, 5))

    assert 5 == await queues.count("q")
    assert numbers(0, 2) == await queues.get("q", count=2)
    assert numbers(2, 5) == await queues.get("q", count=10)
    assert [] == await queues.get("q")
    assert 0 == await queues.count("q")


async def test_partitions_do_not_see_each_other(queues):
    await queues.put("q", [b"1"], partition="a")
    await queues.put("q", [b"2", b"3"], partition="ü")

    assert [] == await queues.get("q")
    assert (0, 1, 2, 3) == (
        await queues.count("q"),
        await queues.count("q", partition="a"),
        await queues.count("q", partition="ü"),
        await queues.count("q", total=True),
    )
    await queues.clear("q", partition="a")
    assert [b"2"] == await queues.get("q", partition="ü")
    await queues.clear("q", every=True)
    assert 0 == await queues.count("q", total=True)


async def test_each_value_has_one_taker(queues):
    await queues.put("q", numbers(0, 40))
    taken = await asyncio.gather(*(queues.get("q", count=3) for _ in range(20)))

    assert numbers(0, 40) == sorted(itertools.chain(*taken), key=int)


async def test_a_caller_that_waits_gets_the_next_value(queues):
    getting = asyncio.create_task(queues.get("q", wait_s=LONG_S))
    await waits(queues)
    await queues.put("q", [b"1"], partition="other")
    await queues.put("q", [b"2"])

    assert [b"2"] == await getting
    assert not queues._values.waiting


async def test_of_two_who_wait_each_gets_one(queues):
    first = asyncio.create_task(queues.get("q", wait_s=LONG_S))
    second = asyncio.create_task(queues.get("q", wait_s=LONG_S))
    await waits(queues)
    await queues.put("q", [b"1", b"2"])

    assert {b"1", b"2"} == {*(await first), *(await second)}


async def test_a_caller_that_leaves_takes_no_value_along(queues):
    leaving = asyncio.create_task(queues.get("q", wait_s=LONG_S))
    await waits(queues)
    staying = asyncio.create_task(queues.get("q", wait_s=LONG_S))
    await until(
        lambda: sum(map(len, queues._values.waiting.values())) == 2, "two callers that wait"
    )
    await queues.put("q", [b"1"])  # wakes the first
    leaving.cancel()
    ends = await asyncio.gather(leaving, staying, return_exceptions=True)

    assert [b"1"] in ends  # whoever it was: the value is not lost
    assert 0 == await queues.count("q")


async def test_a_wait_that_is_over_gets_nothing(queues):
    assert [] == await queues.get("q", wait_s=0.01)
    assert not queues._values.waiting


async def test_a_full_partition_waits_for_room(queues, monkeypatch):
    monkeypatch.setattr(module, "MAX_ITEMS", 3)
    await queues.put("q", numbers(0, 2))
    with pytest.raises(TooMany, match="the queue is full"):
        await queues.put("q", [b"2", b"3"])
    assert 2 == await queues.count("q")  # all or none
    putting = asyncio.create_task(queues.put("q", [b"2", b"3"], wait_s=LONG_S))
    await until(lambda: queues._room.waiting, "a caller that waits for room")
    assert [b"0"] == await queues.get("q")
    await putting
    assert [b"1", b"2", b"3"] == await queues.get("q", count=5)


async def test_a_partition_ends_when_nobody_puts(queues, monkeypatch):
    await queues.put("q", [b"1"], partition="a", ttl_s=100)
    await queues.put("q", [b"1"], partition="b", ttl_s=1000)
    now = module.time.time()
    monkeypatch.setattr(module.time, "time", lambda: now + 101)

    assert 1 == await queues.count("q", total=True)
    assert [] == await looked(queues, partition="a")
    assert [] == await queues.get("q", partition="a")
    await queues.put("q", [b"2"], partition="a", ttl_s=100)
    assert [b"2"] == await queues.get("q", partition="a", count=5)
    monkeypatch.setattr(module.time, "time", lambda: now + 2000)
    await queues.sweep()
    assert 0 == await queues.count("q", total=True)


async def test_looking_takes_nothing(queues, monkeypatch):
    monkeypatch.setattr(module, "PAGE", 2)
    await queues.put("q", numbers(0, 5))

    assert numbers(0, 5) == await looked(queues)
    assert 5 == await queues.count("q")


async def test_looking_waits_for_more(queues):
    await queues.put("q", [b"0"])
    page, after = await queues.page("q", wait_s=LONG_S)
    looking = asyncio.create_task(queues.page("q", after=after, wait_s=LONG_S))
    await asyncio.sleep(0)
    await queues.put("q", [b"1"])

    assert [b"0"] == page
    assert [b"1"] == (await looking)[0]


async def test_a_later_server_goes_on_in_order(queues, database, monkeypatch):
    await queues.put("q", numbers(0, 3))
    monkeypatch.setattr(module.time, "time_ns", lambda: 5)  # the clock was set back
    later = Queues(database)
    await later.load()
    await later.put("q", numbers(3, 5))

    assert numbers(0, 5) == await later.get("q", count=9)


async def test_limits(queues, monkeypatch):
    with pytest.raises(BadRequest, match="a value has at most"):
        await queues.put("q", [bytes(module.MAX_VALUE_BYTES + 1)])
    with pytest.raises(BadRequest, match="room for 5000 values, not for 5001"):
        await queues.put("q", [b""] * 5001)
    with pytest.raises(BadRequest, match="1 to 64 bytes"):
        await queues.get("q", partition="ü" * 33)
    with pytest.raises(BadRequest, match="partition_ttl"):
        await queues.put("q", [b""], ttl_s=0)
    monkeypatch.setattr(module, "MAX_PARTITIONS", 2)
    await queues.put("q", [b""], partition="1")
    await queues.put("q", [b""], partition="2")
    await queues.put("q", [b""], partition="2")
    with pytest.raises(BadRequest, match="at most 2 partitions"):
        await queues.put("q", [b""], partition="3")
    with pytest.raises(NotFound):
        await queues.put("nobody", [b""])
