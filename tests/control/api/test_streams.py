"""Log lines on their way into a stream: each of them, in order, and no faster than the stream is read."""

import asyncio

from homeport.contract.container import LogLine
from homeport.control.api import streams
from tests.waiting import virtually


async def lines(count: int, taken: list[int]):
    for number in range(count):
        taken.append(number)
        yield LogLine(at=0.0, app="a", function="f", container="ta-1", text=str(number))


def test_every_line_is_copied_in_its_order():
    async def story():
        queue = asyncio.Queue()
        await streams.copy_lines(lines(3, []), queue)

        assert ["0", "1", "2"] == [queue.get_nowait().line.text for _ in range(3)]
        assert queue.empty()

    virtually(story())


def test_a_reader_that_is_slow_holds_the_lines_up_and_gets_all_of_them():
    async def story():
        queue, taken = asyncio.Queue(), []
        copying = asyncio.create_task(streams.copy_lines(lines(2000, taken), queue))
        await asyncio.sleep(60)
        ahead = len(taken)
        read = []
        while len(read) < 2000:
            read.append((await queue.get()).line.text)
        await copying

        assert streams.AT_ONCE < ahead < streams.AT_ONCE + 10
        assert [str(number) for number in range(2000)] == read

    virtually(story())
