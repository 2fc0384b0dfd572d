"""Something long leaves others their turn."""

import asyncio
import time

from homeport.control import turns
from homeport.control.turns import in_turns


async def test_others_have_their_turn_while_something_takes_long(monkeypatch):
    monkeypatch.setattr(turns, "TURN_S", 0.0)
    others: list[int] = []

    async def other() -> None:
        for number in range(3):
            others.append(number)
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    seen = [(item, len(others)) async for item in in_turns("abcd")]
    await task

    assert [("a", 0), ("b", 1), ("c", 2), ("d", 3)] == seen


async def test_few_items_are_done_in_one_piece(monkeypatch):
    monkeypatch.setattr(time, "perf_counter", lambda: 0.0)
    others: list[str] = []
    task = asyncio.create_task(asyncio.sleep(0))
    task.add_done_callback(lambda _task: others.append("done"))
    seen = [(item, [*others]) async for item in in_turns(range(100))]
    await task

    assert [(number, []) for number in range(100)] == seen
