"""The machines that have joined, and the tokens."""

import asyncio

import pytest

from homeport.contract.errors import AlreadyExists, NotFound, StorageError, Unauthorized
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


async def test_a_machine_that_is_removed_while_it_is_changed_does_not_come_back(nodes):
    for name in "abc":
        await nodes.add_token(name * 64, 60)
        await nodes.join(name * 64, name, name * 32)
    changes = nodes.drain("a", on=True), nodes.label("b", {"region": "eu"}), nodes.note("c", 7, away=True)  # fmt: skip
    ends = await asyncio.gather(*changes, *map(nodes.remove, "abc"), return_exceptions=True)

    assert [NotFound, NotFound] == [type(end) for end in ends if end is not None]
    assert [] == nodes.all()
    assert nodes.id_of("a") is None


async def test_two_changes_at_once_are_both_kept(nodes, database):
    await nodes.add_token("d" * 64, 60)
    await nodes.join("d" * 64, "a", "1" * 32)
    await asyncio.gather(
        nodes.drain("a", on=True),
        nodes.note("a", 7, away=True),
        nodes.label("a", {"region": "eu"}),
        nodes.label("a", {"disk": "fast"}),
        nodes.drain("a", on=False),
    )
    again = Nodes(database)
    await again.load()
    row = nodes.get("a")

    assert (False, 7, True, {"region": "eu", "disk": "fast"}) == (
        row.drained,
        row.generation,
        row.away,
        row.labels,
    )
    assert row == again.get("a")


async def test_a_machine_stays_if_its_removal_cannot_be_written(nodes, monkeypatch):
    await nodes.add_token("d" * 64, 60)
    await nodes.join("d" * 64, "a", "1" * 32)

    async def fail(_work):
        raise StorageError("the disk is full")

    monkeypatch.setattr(nodes._database, "write", fail)
    with pytest.raises(StorageError):
        await nodes.remove("a")

    assert "1" * 32 == nodes.id_of("a")
