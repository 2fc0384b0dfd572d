"""A part of an endpoint's requests goes to another version, by a real HAProxy."""

import asyncio
import dataclasses
from collections import Counter

import pytest

from homeport.contract import recorded
from homeport.contract.rates import parse
from homeport.contract.traffic import Endpoint, PoolKey, Split
from tests.ingress.conftest import POOL, opened_by, routed
from tests.ingress.test_ring import Book, id_of
from tests.waiting import until

NEW = PoolKey("app", "f", "rv-2")
OTHER = Endpoint(id="web-v2", hosts=("web-v2.localhost",), pool=NEW)
PARAMETER = ("size",)


@pytest.fixture
async def both(ingress, upstream):
    """The ingress, with a container of each version; the endpoint `web` has the old one."""
    for name, pool in (("old", POOL), ("new", NEW)):
        container = await upstream(name)
        await ingress.attach(pool, name, container.address, 50)
    await ingress.route(OTHER)
    return ingress


async def names(visitor, url: str, count: int, **more) -> Counter[str]:
    answers = [await visitor.get(url, **more) for _ in range(count)]
    assert {200} == {answer.status_code for answer in answers}
    return Counter(answer.json()["name"] for answer in answers)


async def test_a_split_sends_the_wanted_part_of_the_requests_to_the_other_version(both, visitor):
    url = await routed(both, id="web")
    assert {"old": 20} == await names(visitor, url, 20)
    await both.split("web", Split(endpoint="web-v2", per_mille=300))
    split = await names(visitor, url, 400)
    await both.split("web", None)

    # 300 of 1,000: 400 requests leave this range once in 100,000 runs
    assert 80 <= split["new"] <= 161
    assert {"old": 20} == await names(visitor, url, 20)
    assert both._maps.get("guards", "web") is None, "an endpoint without a canary costs nothing"


async def test_a_split_stays_when_its_endpoint_is_routed_again_and_goes_with_it(both, visitor):
    url = await routed(both, id="web")
    (endpoint,) = (e for e in both._picture.endpoints.values() if e.id == "web")
    await both.split("web", Split(endpoint="web-v2", per_mille=999))
    await both.split("nobody", Split(endpoint="web-v2", per_mille=999))
    await both.route(dataclasses.replace(endpoint, timeout_s=7.0))
    await both._supervisor.reload()
    assert (await names(visitor, url, 20))["new"] >= 15
    await both.unroute("web")
    await both.route(endpoint)

    assert {"old": 20} == await names(visitor, url, 20)


async def test_a_record_says_which_version_a_request_went_to(both, visitor):
    book, url = Book(both), await routed(both, id="web")
    await both.split("web", Split(endpoint="web-v2", per_mille=500))
    answers = [await visitor.get(url) for _ in range(30)]
    for answer in answers:
        record = await book.of(id_of(answer))
        version = {"old": "web", "new": "web-v2"}[answer.json()["name"]]
        assert (version, answer.json()["name"]) == (record.endpoint, record.container)


async def test_tokens_and_rates_are_those_of_the_endpoint(both, visitor):
    url = await routed(both, id="web", protected=True, limited="c" * 20)
    await both.tokens({"wk-1": opened_by("ws-1")})
    await both.rates({"c" * 20: parse("30/m")})
    await both.split("web", Split(endpoint="web-v2", per_mille=500))
    right = {"Authorization": "Bearer wk-1.ws-1"}
    assert [401] * 20 == [(await visitor.get(url)).status_code for _ in range(20)]
    found = await names(visitor, url, 30, headers=right)

    assert {"old", "new"} == set(found)
    assert 429 == (await visitor.get(url, headers=right)).status_code


async def test_the_method_is_that_of_the_version(both, visitor):
    await both.route(dataclasses.replace(OTHER, method="renamed"))
    url = await routed(both, id="web", method="add")
    await both.split("web", Split(endpoint="web-v2", per_mille=500))
    answers = [(await visitor.get(url)).json() for _ in range(40)]

    told = {each["name"]: each["headers"]["x-homeport-method"] for each in answers}
    assert {"old": "add", "new": "renamed"} == told


async def refused(both, activator) -> None:
    """Let the new version lose its container, and start no other one."""

    async def refuse(_pool: str) -> str:
        return "no 503 no container could be started"

    await both.drain(NEW, "new")
    await both.detach(NEW, "new")
    activator.answer = refuse


async def test_a_version_that_cannot_start_fails_no_request(both, visitor, activator):
    await both.route(dataclasses.replace(OTHER, method="renamed", parameters=PARAMETER))
    url = await routed(both, id="web", method="add")
    await both.split("web", Split(endpoint="web-v2", per_mille=999))
    await refused(both, activator)
    answers = [(await visitor.get(f"{url}/?size=7")).json() for _ in range(20)]

    assert {("old", "add")} == {(a["name"], a["headers"]["x-homeport-method"]) for a in answers}
    assert any("rv-2?size=7" in pool for pool in activator.parked)


async def test_requests_that_wait_for_a_version_that_ends_go_to_the_other(both, visitor, activator):
    book = Book(both)
    url = await routed(both, id="web", method="add")
    await both.split("web", Split(endpoint="web-v2", per_mille=999))
    await refused(both, activator)
    ended = asyncio.Event()

    async def wait(_pool: str) -> str:
        await ended.wait()
        return "go waited"

    activator.answer = wait
    visits = [asyncio.create_task(visitor.get(url)) for _ in range(10)]
    await until(lambda: len(activator.parked) >= 8, "requests that are parked")
    await both.split("web", None)
    ended.set()
    answers = await asyncio.gather(*visits)

    assert {"old"} == {answer.json()["name"] for answer in answers}
    assert {"add"} == {answer.json()["headers"]["x-homeport-method"] for answer in answers}
    assert {"web"} == {(await book.of(id_of(answer))).endpoint for answer in answers}


async def test_a_container_that_dies_sends_its_requests_to_the_other_version(
    both, visitor, upstream
):
    await both.route(dataclasses.replace(OTHER, method="renamed"))
    book, url = Book(both), await routed(both, id="web")
    await both.split("web", Split(endpoint="web-v2", per_mille=999))
    dying = await upstream("dying")
    await both.drain(NEW, "new")
    await both.detach(NEW, "new")
    await both.attach(NEW, "dying", dying.address, 50)
    await dying.close()
    answer = await visitor.get(url)
    record = await book.of(id_of(answer))

    assert ("old", 200) == (answer.json()["name"], answer.status_code)
    assert "x-homeport-method" not in answer.json()["headers"]
    assert "old" == record.container
    assert recorded.ENDINGS["S"] != record.ended
