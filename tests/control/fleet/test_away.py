"""A node whose machine does not answer: others take its containers' place within seconds, and nothing runs twice afterwards."""

import asyncio
import dataclasses

import pytest

from homeport.contract.errors import Failure
from homeport.control.fleet.mirror import ANSWER_S, BEAT_S, GONE_S, Health
from tests.control.fleet.house import House, elapsed
from tests.control.fleet.test_nodes import GIVEN_UP_S, two
from tests.waiting import until, virtual

AWAY_S = BEAT_S + ANSWER_S + 0.1  # the longest from a death until others are started
START_S = 0.1  # of the fakes


def alive(house: House) -> set[str]:
    """Return the ids of the containers that take requests."""
    return {
        member.id
        for member in house.pool.members.values()
        if member.stage == "ready" and not member.away
    }


@virtual
async def test_containers_of_a_dead_machine_are_replaced_within_five_seconds():
    a, b = two()
    async with House(a, b, min_containers=2) as house:
        await until(lambda: len(alive(house)) == 2, "two containers")
        (lost,) = (container.id for container in a.containers)
        a.is_cut, died = True, elapsed()
        await until(lambda: lost not in alive(house) and len(alive(house)) == 2, "two others")
        assert elapsed() - died < AWAY_S + START_S + 0.2 < 5
        assert 2 == len(b.containers)
        assert Health.SUSPECT is house.nodes.mirrors["a"].health
        await asyncio.sleep(GIVEN_UP_S)

        assert [lost] == [container.id for container in a.containers]
        assert {c.id for c in b.containers} == alive(house) == set(house.pool.members)
        a.is_cut = False
        await asyncio.sleep(2)
        assert [] == a.containers
        assert any("other containers take the place" in line.text for line in house.said)


@virtual
async def test_a_request_that_finds_only_a_dead_container_waits_for_the_next_one():
    a, b = two()
    b.capacity = dataclasses.replace(b.capacity, memory_mib=1024)  # the second choice
    async with House(a, b, min_containers=1) as house:
        await until(lambda: alive(house), "a container")
        assert 1 == len(a.containers)
        a.is_cut = True
        await until(lambda: house.nodes.mirrors["a"].is_away, "the node to be away")
        began = elapsed()
        assert await house.activator.park(house.pool.key)

        assert elapsed() - began < 3 * START_S
        assert alive(house) == {container.id for container in b.containers}


@virtual
async def test_after_a_short_cut_the_old_containers_serve_again_and_no_more_run_than_wanted():
    a, b = two()
    async with House(a, b, min_containers=2, scaledown_window_s=2.0) as house:
        await until(lambda: len(alive(house)) == 2, "two containers")
        (old,) = (container.id for container in a.containers)
        a.is_cut = True
        await asyncio.sleep(GONE_S - 2)
        assert 2 == len(b.containers)
        a.is_cut = False
        await asyncio.sleep(10)

        assert old in alive(house)
        assert [1, 1] == [len(a.containers), len(b.containers)]  # spread as before
        assert 2 == len(alive(house))
        assert 0 == a.generation


@virtual
async def test_a_machine_that_answers_while_its_agent_does_not_keeps_its_containers():
    a, b = two()
    async with House(a, b, min_containers=2) as house:
        await until(lambda: len(alive(house)) == 2, "two containers")
        before = alive(house)
        a.has_agent = False
        await asyncio.sleep(GONE_S - 1)
        assert before == alive(house)
        assert Health.SUSPECT is house.nodes.mirrors["a"].health
        a.has_agent = True
        await asyncio.sleep(2)
        assert before == alive(house) == {c.id for c in (*a.containers, *b.containers)}

        # An agent that stays away may have lost its containers, so they are replaced then.
        a.has_agent = False
        await asyncio.sleep(GIVEN_UP_S)
        assert {c.id for c in b.containers} == alive(house)
        assert 2 == len(alive(house))


@virtual
async def test_an_agent_that_hangs_on_a_machine_that_is_dead_is_found_as_soon():
    a, b = two()
    async with House(a, b, min_containers=2) as house:
        await until(lambda: len(alive(house)) == 2, "two containers")

        async def hang():
            await asyncio.Event().wait()

        async def dead() -> bool:
            await asyncio.sleep(0.9)
            return False

        a.mark, a.lives, died = hang, dead, elapsed()
        await until(lambda: house.nodes.mirrors["a"].is_away, "the node to be away")

        assert elapsed() - died <= AWAY_S


@pytest.mark.parametrize(("most", "waits"), [(2, True), (3, False), (None, False)])
def test_the_limit_of_containers_counts_those_that_may_still_run(most, waits):
    @virtual
    async def story():
        a, b = two()
        async with House(a, b, min_containers=2, max_containers=most) as house:
            await until(lambda: len(alive(house)) == 2, "two containers")
            a.is_cut = True
            await asyncio.sleep(GONE_S - 2)
            assert (1 if waits else 2) == len(b.containers)
            await asyncio.sleep(GIVEN_UP_S)

            assert 2 == len(alive(house)) == len(b.containers)

    story()


@virtual
async def test_requests_inside_a_dead_container_start_no_more_containers_than_there_were():
    a, b = two()
    b.capacity = dataclasses.replace(b.capacity, memory_mib=1024)
    async with House(a, b, max_inputs=1, scaledown_window_s=60.0) as house:
        visits = house.visits(3, 100.0)
        await until(lambda: len(alive(house)) == 3, "three containers")
        assert 3 == len(a.containers)
        a.is_cut = True
        await asyncio.sleep(GONE_S - 2)

        assert 3 == len(alive(house)) == len(b.containers)
        for visit in visits:
            visit.cancel()


@virtual
async def test_the_log_of_an_app_at_its_limit_says_why_it_waits():
    a, b = two()
    async with House(a, b, min_containers=1, max_containers=1) as house:
        await until(lambda: alive(house), "a container")
        (node,) = (n for n in (a, b) if n.containers)
        node.is_cut = True
        await asyncio.sleep(AWAY_S + 1)

        assert any("allows no others before it is given up" in line.text for line in house.said)
        assert 0 == len(alive(house))
        await asyncio.sleep(GIVEN_UP_S)
        assert 1 == len(alive(house))


@virtual
async def test_requests_inside_a_container_that_is_lost_end_when_its_node_is_given_up():
    a, b = two()
    async with House(a, b, min_containers=2, max_inputs=1) as house:
        await until(lambda: len(alive(house)) == 2, "two containers")
        visits = house.visits(2, 1000.0)
        await asyncio.sleep(1)
        a.is_cut = True
        await asyncio.sleep(GONE_S - 2)
        assert not any(visit.done() for visit in visits)  # it may be back
        await asyncio.sleep(GIVEN_UP_S)
        ended = [visit for visit in visits if visit.done()]
        for visit in visits:
            visit.cancel()

        assert 1 == len(ended)
        with pytest.raises(Failure, match="was ended"):
            await ended[0]
