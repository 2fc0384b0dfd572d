"""The picture of what HAProxy must know: what an earlier server left in it, and what a failed change leaves."""

import pytest

from homeport.contract.rates import Rate
from homeport.contract.traffic import Endpoint, Pass, PoolKey
from homeport.ingress import picture as module
from homeport.ingress.config import SHARED, Server
from homeport.ingress.maps import MAPS, Maps
from homeport.ingress.picture import Picture
from homeport.undo import Undo

KEPT, GONE = PoolKey("app", "kept", "rv-1"), PoolKey("app", "gone", "rv-1")


def endpoint(pool: PoolKey, port: int, **changes) -> Endpoint:
    name = pool.function
    return Endpoint(id=name, hosts=(f"{name}.x",), pool=pool, local_port=port, **changes)


async def add(picture: Picture, pool: PoolKey, port: int) -> None:
    """Add a pool with one container, and its endpoint."""
    async with Undo("add") as undo:
        known = picture.reclaim(pool, SHARED, undo) or picture.add_pool(pool, SHARED, undo)
        server = Server(name=f"ta-{port}", address="unix@/x", slots=1)
        picture.put_server(known, server, undo)
        picture.lead(pool, known)
        picture.put_endpoint(endpoint(pool, port, protected=True), undo)
        undo.keep()


def contents(picture: Picture) -> dict[str, dict[str, str]]:
    return {name: dict(picture.maps.items(name)) for name in MAPS}


async def test_pools_of_an_earlier_server_go_unless_they_are_added_again(tmp_path):
    before = Picture(Maps(tmp_path))
    await add(before, KEPT, 1)
    await add(before, GONE, 2)
    before.maps.save()
    backends = {str(pool): known.backend for pool, known in before.pools.items()}
    after = Picture(Maps(tmp_path))
    after.load()
    await add(after, KEPT, 1)
    after.forget_stale()
    alone = Picture(Maps(tmp_path / "none"))
    await add(alone, KEPT, 1)

    assert contents(alone) == contents(after)
    assert backends[str(KEPT)] == after.pools[KEPT].backend
    assert backends[str(GONE)] in after.supplies[SHARED].free
    assert backends[str(KEPT)] not in after.supplies[SHARED].free


async def test_a_host_that_has_moved_to_another_endpoint_stays_there(tmp_path):
    picture = Picture(Maps(tmp_path))
    async with Undo("move") as undo:
        for name, hosts in (("g", ("d.x",)), ("f", ("d.x",)), ("g", ())):
            picture.put_endpoint(Endpoint(id=name, hosts=hosts, pool=KEPT), undo)
        undo.keep()

    assert [("d.x", "f")] == picture.maps.items("hosts")


class Failed(Exception):
    """A change that breaks in the middle."""


async def test_a_change_that_fails_leaves_the_picture_as_it_was(tmp_path):
    picture = Picture(Maps(tmp_path))
    await add(picture, KEPT, 1)
    picture.maps.commit()
    before = contents(picture)
    free = list(picture.supplies[SHARED].free)
    with pytest.raises(Failed):
        async with Undo("a change") as undo:
            undo.push(picture.maps.revert)
            picture.add_alias(f"{KEPT}?a=1", KEPT, undo)
            picture.lead(GONE, picture.add_pool(GONE, SHARED, undo))
            picture.put_endpoint(endpoint(GONE, 2), undo)
            picture.put_endpoint(endpoint(KEPT, 3), undo)
            picture.put_server(
                picture.pools[KEPT], Server(name="ta-9", address="unix@/y", slots=2), undo
            )
            picture.remove_endpoint("kept", undo)
            raise Failed

    assert before == contents(picture)
    assert {"kept": endpoint(KEPT, 1, protected=True)} == picture.endpoints
    assert ([KEPT], ["ta-1"]) == (list(picture.pools), picture.containers())
    assert {} == picture.pools[KEPT].aliases == picture._aliases
    assert free == picture.supplies[SHARED].free


async def test_another_spelling_leads_to_its_pool_until_too_many_others_came(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_ALIASES", 2)
    picture = Picture(Maps(tmp_path))
    await add(picture, KEPT, 1)
    async with Undo("aliases") as undo:
        for number in (1, 1, 2, 3):
            picture.add_alias(f"{KEPT}?a={number}", KEPT, undo)
        picture.add_alias(str(KEPT), KEPT, undo)  # its own spelling
        picture.add_alias(f"{GONE}?a=1", GONE, undo)  # no pool
        undo.keep()

    assert 3 == len(picture.maps.items("backends"))
    assert list(picture._aliases) == list(picture.pools[KEPT].aliases)
    assert 2 == len(picture._aliases)
    picture.lead_away(KEPT, picture.pools[KEPT])
    assert [] == picture.maps.items("backends")


def test_tokens_are_replaced_as_a_whole(tmp_path):
    picture = Picture(Maps(tmp_path))
    for tokens in (
        {"wk-a": Pass(sha256="AA" * 32), "wk-b": Pass(sha256="bb" * 32)},
        {
            "wk-b": Pass(sha256="CC" * 32),
            "ab/wk-c": Pass(
                sha256="dd" * 32,
                until=12.0,
                former_sha256="ee" * 32,
                former_until=11.0,
                rate=Rate(5, "m"),
            ),
        },
    ):
        picture.put_tokens(tokens)

    assert {
        "1-wk-b": f"{'cc' * 32}:9999999999:-:0:0:-:0",
        "ab-wk-c": f"{'dd' * 32}:12:{'ee' * 32}:11:5:m:12",
    } == dict(picture.maps.items("tokens"))
