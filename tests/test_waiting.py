"""The virtual clock: sleeps take no time and keep their order, and it does not run ahead of threads."""

import asyncio
import threading

from tests.waiting import virtual


@virtual
async def test_a_day_takes_no_time_and_short_sleeps_add_up():
    clock = asyncio.get_running_loop().time
    began = clock()
    await asyncio.sleep(86_400)
    for _ in range(30):
        await asyncio.sleep(0.1)

    assert 86_403.0 == clock() - began


@virtual
async def test_timers_fire_in_their_order_each_at_its_time():
    clock, fired = asyncio.get_running_loop().time, []

    async def after(delay_s):
        await asyncio.sleep(delay_s)
        fired.append((delay_s, clock()))

    await asyncio.gather(*(after(delay_s) for delay_s in (3.0, 1.0, 2.0)))

    assert [(1.0, 1.0), (2.0, 2.0), (3.0, 3.0)] == fired


@virtual
async def test_a_timer_is_not_reached_while_a_thread_works():
    began = threading.Event()

    def work():
        began.wait()
        return "done"

    async with asyncio.timeout(300):  # not reached, although nothing else is to do
        working = asyncio.ensure_future(asyncio.to_thread(work))
        asyncio.get_running_loop().call_later(0.01, began.set)
        assert "done" == await working


@virtual
async def test_another_thread_wakes_the_loop():
    loop, woken = asyncio.get_running_loop(), asyncio.Event()
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(woken.set,))
    thread.start()
    await woken.wait()
    thread.join()

    assert 0.0 == loop.time()
