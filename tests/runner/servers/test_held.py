"""Held slots: when the last bytes of a response are sent, and what is reported to the node."""

import asyncio
import gc
import weakref

import pytest

from homeport.runner.servers.held import CONFIRM_S, Held
from tests.waiting import virtually


@pytest.fixture
def said():
    return []


def test_a_slot_is_confirmed_when_the_ingress_keeps_as_many_back(said):
    async def story():
        held = Held(said.append)
        first, second = held.begin(), held.begin()
        held.confirmed(1)
        done = [first.done(), second.done()]
        held.confirmed(2)

        assert [True, False] == done
        assert second.done()
        assert [1, 2] == said

    virtually(story())


def test_a_slot_is_confirmed_after_a_while_if_the_ingress_says_nothing(said):
    async def story():
        held = Held(said.append)
        began = asyncio.get_running_loop().time()
        await held.begin()

        assert CONFIRM_S == pytest.approx(asyncio.get_running_loop().time() - began)

    virtually(story())


def test_work_that_has_ended_is_told_and_nothing_of_it_is_kept(said):
    async def story():
        held = Held(said.append)
        kept = weakref.ref(held.begin())
        held.confirmed(1)
        held.end()
        await asyncio.sleep(CONFIRM_S)
        gc.collect()

        assert kept() is None
        assert ([1, 0], 0) == (said, held.count)

    virtually(story())
