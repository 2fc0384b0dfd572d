"""What one look at a node finds: its agent, or at least its machine."""

import asyncio

import pytest

from homeport.contract.errors import NodeLost
from homeport.contract.listing import Mark
from homeport.control.fleet.looking import AGAIN_S, FIRST_S, look
from tests.waiting import virtually

MARK = Mark(run="1")


class Machine:
    """A node whose agent answers after so many seconds, one number for each question; None: it has hung up."""

    def __init__(self, *answers_s: float | None, lives: bool = True) -> None:
        self._answers_s = [*answers_s]
        self._lives = lives
        self.machine_asked = 0

    async def mark(self) -> Mark:
        answer_s = self._answers_s.pop(0)
        if answer_s is None:
            raise NodeLost("it has hung up")
        await asyncio.sleep(answer_s)
        return MARK

    async def lives(self) -> bool:
        self.machine_asked += 1
        return self._lives


def seen(machine: Machine, *, at_machine: bool) -> tuple[Mark | None, bool, float]:
    """Return what a look finds, and how long it takes."""

    async def story():
        found = await look(machine, at_machine=at_machine)
        return *found, asyncio.get_running_loop().time()

    return virtually(story())


@pytest.mark.parametrize("at_machine", [True, False])
def test_an_agent_that_answers_is_asked_once_and_its_machine_is_there(at_machine):
    machine = Machine(0.2, lives=False)

    assert (MARK, True, 0.2) == seen(machine, at_machine=at_machine)
    assert machine.machine_asked == 0


@pytest.mark.parametrize("lives", [True, False])
def test_an_agent_that_has_hung_up_is_away_at_once_and_its_machine_says_whether_it_is(lives):
    assert (None, lives, 0.0) == seen(Machine(None, lives=lives), at_machine=True)


def test_a_machine_that_is_not_looked_at_counts_as_there():
    machine = Machine(None, lives=False)

    assert (None, True, 0.0) == seen(machine, at_machine=False)
    assert machine.machine_asked == 0


@pytest.mark.parametrize("lives", [True, False])
def test_an_agent_that_is_late_is_asked_once_more(lives):
    machine = Machine(2 * FIRST_S, AGAIN_S / 2, lives=lives)

    assert (MARK, lives, FIRST_S + AGAIN_S / 2) == seen(machine, at_machine=True)


@pytest.mark.parametrize("second_s", [2 * AGAIN_S, None])
@pytest.mark.parametrize("at_machine", [True, False])
def test_an_agent_that_is_late_twice_or_hangs_up_meanwhile_does_not_answer(at_machine, second_s):
    mark, _, took_s = seen(Machine(2 * FIRST_S, second_s), at_machine=at_machine)

    assert mark is None
    assert took_s <= FIRST_S + AGAIN_S
