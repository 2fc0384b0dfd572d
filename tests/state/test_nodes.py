"""The machines that have joined, and the tokens."""

import asyncio

import pytest

from homeport.contract.errors import AlreadyExists, NotFound, Unauthorized
from homeport.state.nodes import Nodes
from tests.clock import Clock


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def nodes(database, clock):
    return Nodes(database, clock)


async def test_a_token_lets_one_machine_join(nodes, database):
    await nodes.add_token("d" * 64, 60)
    await nodes.join("d" * 64, "a", "1" * 32)
    with pytest.raises(Unauthorized):
        await nodes.join("d" * 64, "b", "2" * 32)
    again = Nodes(database)
    await again.load()

    assert {"a": "1" * 32} == {row.name: row.id for row in again.all()}
    assert ("1" * 32, None) == (again.id_of("a"), again.id_of("b"))


async def test_of_two_machines_with_one_token_only_one_joins(nodes):
    await nodes.add_token("d" * 64, 60)
    done = await asyncio.gather(
        *(nodes.join("d" * 64, name, "1" * 32) for name in ("a", "b", "c")), return_exceptions=True
    )

    assert [True, True] == [isinstance(each, Unauthorized) for each in done if each is not None]
    assert 1 == len(nodes.all())


async def test_a_token_that_is_too_old_is_refused_and_forgotten(nodes, clock):
    await nodes.add_token("d" * 64, 60)
    clock.at += 61
    with pytest.raises(Unauthorized):
        await nodes.join("d" * 64, "a", "1" * 32)

    await nodes.add_token("e" * 64, 60)
    clock.at -= 61
    with pytest.raises(Unauthorized):
        await nodes.join("d" * 64, "a", "1" * 32)


async def test_a_name_that_is_taken_uses_up_no_token(nodes):
    for digest, name in (("d" * 64, "a"), ("e" * 64, "a")):
        await nodes.add_token(digest, 60)
        try:
            await nodes.join(digest, name, digest[:32])
        except AlreadyExists:
            await nodes.join(digest, "b", digest[:32])

    assert {"a": "d" * 32, "b": "e" * 32} == {row.name: row.id for row in nodes.all()}


async def test_a_machine_is_drained_and_removed(nodes, database):
    await nodes.add_token("d" * 64, 60)
    await nodes.join("d" * 64, "a", "1" * 32)
    await nodes.drain("a", on=True)
    again = Nodes(database)
    await again.load()
    assert [True] == [row.drained for row in again.all()]
    await nodes.remove("a")
    await again.load()

    assert [] == nodes.all() == again.all()
    for work in (nodes.remove("a"), nodes.drain("a", on=True)):
        with pytest.raises(NotFound, match="there is no node `a`"):
            await work


async def test_the_generation_and_the_absence_of_a_node_are_kept(nodes, database):
    await nodes.add_token("d" * 64, 60)
    await nodes.join("d" * 64, "a", "1" * 32, {"region": "eu"})
    await nodes.note("a", 2**53, away=True)
    await nodes.note("unknown", 1, away=True)
    again = Nodes(database)
    await again.load()

    assert again.get("a") == nodes.get("a")
    assert (2**53, True, {"region": "eu"}) == (
        again.get("a").generation,
        again.get("a").away,
        again.get("a").labels,
    )
