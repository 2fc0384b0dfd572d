"""The promises of the ingress role, kept by the fake and by HAProxy alike."""

import asyncio

import pytest

from homeport.contract import recorded
from homeport.contract.calls import endpoint_id
from homeport.contract.errors import BadRequest, Failure, NotFound
from homeport.contract.rates import Rate
from homeport.contract.traffic import Detached, Endpoint, PoolKey, Split
from tests.certificates import Authority
from tests.ingress.conftest import POOL, opened_by
from tests.roles.ingresses import Fake, load, real
from tests.waiting import until


@pytest.fixture(params=["fake", "haproxy"])
async def house(request, tmp_path):
    """The fake or the real ingress."""
    if request.param == "fake":
        yield Fake()
        return
    async with real(tmp_path) as house:
        yield house


async def test_slots_are_exact_and_a_new_container_takes_the_queue(house):
    await house.attach("one", 2)
    visits = [house.ask() for _ in range(5)]
    told = await load(house, 2, 3)
    await house.attach("two", 2)
    both = await load(house, 4, 1)
    house.may_go.set()
    names = await asyncio.gather(*visits)

    assert {"one": 2} == told.per_container
    assert {"one": 2, "two": 2} == both.per_container
    assert (2, 2) == (house.most("one"), house.most("two"))
    assert {"one", "two"} == set(names)
    assert 5 == (await load(house, 0, 0)).served


async def test_a_busy_container_cannot_be_detached_and_a_draining_one_gets_nothing_new(house):
    await house.attach("one", 1)
    first = house.ask()
    await load(house, 1, 0)
    await house.attach("two", 4)
    await house.ingress.drain(POOL, "one")
    others = [house.ask() for _ in range(3)]
    await load(house, 4, 0)
    while_busy = await house.ingress.detach(POOL, "one")
    house.may_go.set()

    assert while_busy is None
    assert "one" == await first
    assert ["two"] * 3 == await asyncio.gather(*others)
    gone: list[Detached] = []

    async def has_left() -> bool:
        gone.extend(filter(None, [await house.ingress.detach(POOL, "one")]))
        return bool(gone)

    await until(has_left, "the last request to leave")
    assert [Detached(served=1)] == gone
    assert Detached() == await house.ingress.detach(POOL, "unknown")
    after = await load(house, 0, 0)
    assert ({"two": 0}, {"two": 3}, 4) == (after.per_container, after.served_by, after.served)


async def test_the_last_container_works_its_queue_off_and_what_comes_later_parks(house):
    await house.attach("one", 1)
    early = [house.ask() for _ in range(2)]
    await load(house, 1, 1)
    await house.ingress.drain(POOL, "one")

    async def on_park():
        await house.attach("two", 4)

    house.on_park = on_park
    late = house.ask()
    await until(lambda: house.parked, "a request that parks")
    house.may_go.set()

    assert "two" == await late
    assert {"one"} >= {await visit for visit in early} - {"two"}


async def test_a_request_queued_at_a_container_that_ends_parks_and_goes_to_the_next(house):
    await house.attach("one", 1)
    inside = house.ask()
    await load(house, 1, 0)
    queued = [house.ask() for _ in range(3)]
    await load(house, 1, 3)
    next_one = asyncio.Event()
    house.on_park = next_one.wait
    await house.ingress.lose(POOL, "one")
    await until(lambda: house.parked, "a request that parks")
    await house.attach("two", 4)
    next_one.set()
    house.may_go.set()

    assert ["two"] * 3 == await asyncio.gather(*queued)
    assert "one" == await inside
    await until(lambda: house.ingress.detach(POOL, "one"), "the last request to leave")


async def test_the_first_answer_of_each_container_is_told_once_however_many_it_gives(house):
    await house.attach("one", 1)
    first = house.ask()
    await load(house, 1, 0)
    await asyncio.sleep(0.05)  # the container takes this time, not the test
    house.may_go.set()
    await first
    await house.answered.by("one")
    await house.ask()
    await house.attach("two", 1)
    await house.ingress.drain(POOL, "one")
    await house.ask()
    await house.answered.by("two")

    assert {"one": 1, "two": 1} == {name: len(ms) for name, ms in house.answered.ms.items()}
    assert 45 <= house.answered.ms["one"][0]


async def test_each_request_that_ends_is_told_to_who_hears_of_them(house):
    records = []
    house.on_park = lambda: house.attach("one", 1)
    house.may_go.set()
    house.ingress.hear(records.append)
    for _ in range(2):
        await house.ask()
    await until(lambda: len(records) == 2, "both records")
    house.ingress.hear(None)
    await house.ask()

    assert [("one", True), ("one", False)] == [(r.container, r.cold) for r in records]
    assert {("GET", "/", 200)} == {(r.method, r.path, r.status) for r in records}


async def test_every_request_is_kept_once_with_what_an_endpoint_and_a_container_were(house):
    kept = []
    house.ingress.keep(kept.extend, tuple)
    house.may_go.set()
    await house.attach("one", 1)
    for _ in range(2):
        await house.ask()
    await until(lambda: len(kept) == 2, "both lines")
    records = [recorded.decode(words) for words in kept]

    assert {("one", False, 200)} == {(r.container, r.cold, r.status) for r in records}
    assert 2 == len({r.id for r in records})
    assert 1 == len({r.endpoint for r in records} - {"", "-"})


async def test_the_next_request_to_a_pool_is_told_of_when_it_begins_and_only_once(house):
    other = PoolKey("app", "other", "rv-1")
    await house.attach("one", 5)
    await house.ingress.attach(other, "two", "unix:/nobody", 5)
    await house.ingress.doze([POOL, other, PoolKey("app", "unknown", "rv-1")])
    await house.ingress.doze([POOL])  # twice is once
    first = house.ask()
    await until(lambda: house.roused, "the line")
    assert not first.done()
    second = house.ask()
    await load(house, 2, 0)
    assert [POOL] == house.roused
    await house.ingress.doze([other])
    third = house.ask()
    await load(house, 3, 0)
    assert [POOL] == house.roused
    await house.ingress.doze([POOL])
    fourth = house.ask()
    await until(lambda: [POOL, POOL] == house.roused, "the next line")
    house.may_go.set()

    assert ["one"] * 4 == await asyncio.gather(first, second, third, fourth)
    assert [] == house.parked


async def test_an_unknown_pool_has_no_load_and_can_be_dropped(house):
    assert {} == await house.ingress.load([POOL])
    await house.ingress.drop(POOL)


async def test_a_held_slot_is_nobodys_until_it_is_given_back(house):
    await house.attach("one", 2)
    await house.ingress.hold(POOL, "one", 1)
    visits = [house.ask() for _ in range(3)]
    await load(house, 1, 2)
    await house.ingress.hold(POOL, "one", 0)
    await load(house, 2, 1)
    house.may_go.set()

    assert ["one"] * 3 == await asyncio.gather(*visits)


async def test_a_container_whose_slots_are_all_held_gets_nobody_and_comes_back(house):
    await house.attach("one", 2)
    inside = house.ask()
    await load(house, 1, 0)
    await house.ingress.hold(POOL, "one", 2)
    given_back = asyncio.Event()
    house.on_park = given_back.wait
    parked = [house.ask() for _ in range(3)]
    await until(lambda: len(house.parked) == 3, "three requests that park")
    most = house.most("one")
    await house.ingress.hold(POOL, "one", 0)
    given_back.set()
    house.may_go.set()

    assert 1 == most
    assert ["one"] * 4 == await asyncio.gather(inside, *parked)


async def test_a_request_queued_for_a_slot_that_is_held_goes_to_the_next_container(house):
    await house.attach("one", 1)
    inside = house.ask()
    await load(house, 1, 0)
    queued = [house.ask() for _ in range(3)]
    await load(house, 1, 3)
    next_one = asyncio.Event()
    house.on_park = next_one.wait
    await house.ingress.hold(POOL, "one", 1)
    await until(lambda: len(house.parked) == 3, "three requests that park")
    await house.attach("two", 4)
    next_one.set()
    house.may_go.set()

    assert ["two"] * 3 == await asyncio.gather(*queued)
    assert "one" == await inside


async def test_a_held_container_that_drains_or_ends_is_forgotten_like_any_other(house):
    await house.attach("one", 1)
    await house.attach("two", 1)
    await house.ingress.hold(POOL, "one", 1)
    await house.ingress.hold(POOL, "unknown", 1)
    await house.ingress.drain(POOL, "one")
    await house.ingress.hold(POOL, "one", 0)
    house.may_go.set()
    answers = {await house.ask() for _ in range(3)}
    await until(lambda: house.ingress.detach(POOL, "one"), "the last request to leave")

    assert {"two"} == answers


async def test_requests_older_than_the_age_are_cut_and_their_slots_are_free(house):
    await house.attach("one", 2)
    young = [house.ask() for _ in range(2)]
    await load(house, 2, 0)
    await house.ingress.cut(POOL, "one", 3600)
    await house.ingress.cut(POOL, "unknown", 0)
    house.may_go.set()
    spared = await asyncio.gather(*young)
    await load(house, 0, 0)
    house.may_go.clear()
    old = [house.ask() for _ in range(2)]
    await load(house, 2, 0)
    await house.ingress.cut(POOL, "one", 0)
    cut = await asyncio.gather(*old, return_exceptions=True)
    await load(house, 0, 0)
    house.may_go.set()

    assert ["one", "one"] == spared
    assert [Failure, Failure] == [type(answer) for answer in cut]
    assert "one" == await house.ask()


async def test_an_endpoint_leads_to_its_pool_from_route_to_unroute(house):
    await house.attach("one", 1)
    house.may_go.set()
    ports = [await house.ingress.free_port() for _ in range(2)]
    endpoint = Endpoint(id="new", pool=POOL, hosts=("new.localhost",), local_port=ports[0])
    await house.ingress.route(endpoint)
    answer = await house.ask_at(endpoint)
    await house.ingress.unroute("new")
    await house.ingress.unroute("unknown")

    assert "one" == answer
    assert ports[0] != ports[1]
    with pytest.raises(NotFound):
        await house.ask_at(endpoint)


async def test_an_endpoint_for_calls_has_no_host_and_leads_to_its_pool(house):
    await house.attach("one", 1)
    house.may_go.set()
    endpoint = Endpoint(
        id=endpoint_id("app", "f", key="k"), hosts=(), pool=POOL, retries="1.0.1000.1000"
    )
    await house.ingress.route(endpoint)
    answer = await house.ask_at(endpoint)
    await house.ingress.unroute(endpoint.id)

    assert "one" == answer
    with pytest.raises(NotFound):
        await house.ask_at(endpoint)


async def test_a_limit_and_a_token_are_kept_from_one_replacement_to_the_next(house):
    await house.attach("one", 1)
    house.may_go.set()
    endpoint = Endpoint(
        id="rated",
        pool=POOL,
        hosts=("rated.localhost",),
        local_port=await house.ingress.free_port(),
        limited="b" * 20,
    )
    await house.ingress.route(endpoint)
    await house.ingress.rates({endpoint.limited: Rate(100, "m")})
    await house.ingress.tokens({"wk-1": opened_by("ws-1")})
    answer = await house.ask_at(endpoint)
    used = await house.ingress.tokens_used()
    await house.ingress.rates({})
    await house.ingress.tokens({})

    assert "one" == answer == await house.ask_at(endpoint)
    assert {} == used, "nobody has shown the token"


async def test_a_captured_request_is_answered_as_any_other(house):
    await house.attach("one", 1)
    house.may_go.set()
    port = await house.ingress.free_port()
    endpoint = Endpoint(id="seen", pool=POOL, hosts=("seen.localhost",), local_port=port)
    await house.ingress.route(endpoint)
    answers = []
    for told in ("0f5c.100", "0f5d.100", None, None):
        await house.ingress.capture("seen", told)
        await house.ingress.capture("nobody", told)
        answers.append(await house.ask_at(endpoint))

    assert ["one"] * 4 == answers


async def test_a_split_endpoint_answers_as_ever(house):
    await house.attach("one", 1)
    house.may_go.set()
    port = await house.ingress.free_port()
    endpoint = Endpoint(id="web", pool=POOL, hosts=("web.localhost",), local_port=port)
    other = Endpoint(id="web-v2", pool=POOL, hosts=("web-v2.localhost",))
    await house.ingress.route(endpoint)
    await house.ingress.route(other)
    answers = []
    for part in (Split(endpoint=other.id, per_mille=500), None, None):
        await house.ingress.split(endpoint.id, part)
        await house.ingress.split("nobody", part)
        answers.append(await house.ask_at(endpoint))

    assert ["one"] * 3 == answers


async def test_a_certificate_has_to_be_for_its_hosts_and_an_unknown_one_can_be_removed(house):
    pem = Authority().pem("a.localhost", "*.apps.test")
    await house.ingress.certificate("a", pem, ["a.localhost", "*.apps.test"])
    await house.ingress.certificate("a", pem, ["x.apps.test"])
    await house.ingress.remove_certificate("a")
    await house.ingress.remove_certificate("a")
    await house.ingress.challenge("token", "token.answer")
    await house.ingress.challenge("token", None)
    await house.ingress.challenge("token", None)

    for bad, hosts in ((pem, ["b.localhost"]), (pem[:-50], ["a.localhost"]), (b"", [])):
        with pytest.raises(BadRequest):
            await house.ingress.certificate("b", bad, hosts)
