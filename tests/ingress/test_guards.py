"""Proxy tokens and rate limits, by a real HAProxy: who passes, how often, and what dodges nothing."""

import asyncio
import os
import re
import signal
import time

import pytest

from homeport.contract.rates import PERIODS_S, parse
from homeport.ingress import guards
from homeport.ingress.guards import used
from tests.ingress.conftest import POOL, opened_by, routed
from tests.waiting import until

APP, PRICE, OTHER = "a" * 20, "b" * 20, "c" * 20
HOUR_S = 3600
ONE, TWO = {"Authorization": "Bearer wk-1.ws-1"}, {"Authorization": "Bearer wk-2.ws-2"}


@pytest.fixture(autouse=True)
def long_minutes(monkeypatch):
    """A minute has an hour, so that no test depends on its own speed."""
    monkeypatch.setitem(PERIODS_S, "m", HOUR_S)


@pytest.fixture
async def ready(ingress, upstream):
    """The ingress, with a container."""
    one = await upstream("one")
    await ingress.attach(POOL, "one", one.address, 20)
    return ingress


async def codes(visitor, url, *headers, **more):
    return [(await visitor.get(url, headers=each, **more)).status_code for each in headers]


async def test_a_token_of_an_app_or_of_a_function_opens_no_other(ready, visitor):
    price = await routed(ready, protected=True, realms=(APP, PRICE))
    other = await routed(ready, protected=True, realms=(APP, OTHER))
    foreign = await routed(ready, protected=True, realms=("d" * 20, "e" * 20))
    await ready.tokens(
        {
            "wk-1": opened_by("ws-1"),
            f"{APP}/wk-2": opened_by("ws-2"),
            f"{PRICE}/wk-3": opened_by("ws-3"),
            f"{OTHER}/wk-4": opened_by("ws-4"),
            f"{PRICE}/wk-4": opened_by("ws-4"),
        }
    )
    tokens = [{"Modal-Key": f"wk-{n}", "Modal-Secret": f"ws-{n}"} for n in range(1, 5)]

    assert [200, 200, 200, 200] == await codes(visitor, price, *tokens)
    assert [200, 200, 401, 200] == await codes(visitor, other, *tokens)
    assert [200, 401, 401, 401] == await codes(visitor, foreign, *tokens)
    # an id with the realm, or with another one, in it
    for key in (f"{PRICE}-wk-3", "-wk-3", f"wk-3.{PRICE}", "WK-3", "wk-3,wk-3"):
        pair = {"Modal-Key": key, "Modal-Secret": "ws-3"}
        assert [401] == await codes(visitor, foreign, pair), key


async def test_an_expired_token_and_a_secret_after_its_overlap_open_nothing(ready, visitor):
    url, now = await routed(ready, protected=True), time.time()
    new, old = opened_by("ws-1"), opened_by("ws-2").sha256
    both = [ONE, {"Authorization": "Bearer wk-1.ws-2"}]
    for changes, expected in (
        ({}, [200, 401]),
        ({"until": now + 1000}, [200, 401]),
        ({"until": now - 1}, [401, 401]),
        ({"former_sha256": old, "former_until": now + 1000}, [200, 200]),
        ({"former_sha256": old, "former_until": now - 1}, [200, 401]),
        ({"former_sha256": old, "former_until": now + 1000, "until": now - 1}, [401, 401]),
    ):
        await ready.tokens({"wk-1": opened_by("ws-1", **changes)})
        assert expected == await codes(visitor, url, *both), changes
    assert new.sha256 not in (await visitor.get(url, headers=ONE)).text


async def test_a_token_expires_without_a_control_plane(ready, visitor):
    url, end = await routed(ready, protected=True), time.time() + 3
    await ready.tokens({"wk-1": opened_by("ws-1", until=end)})
    asked = 0.0
    while asked < end + 1:  # HAProxy counts whole seconds
        asked = time.time()
        code = (await visitor.get(url, headers=ONE)).status_code
        if time.time() < end - 1:
            assert 200 == code

    assert 401 == code


async def counts(ingress):
    """Return how many requests were counted for each token."""
    text = await ingress._supervisor.runtime.ask(("show", "table", guards.TABLES["m"]))
    found = re.finditer(r"key=(wk-\S+) .*? http_req_rate\(\d+\)=(\d+)", text)
    return {each[1]: int(each[2]) for each in found}


async def test_a_token_over_its_rate_gets_429_and_no_other_is_hurt(ready, visitor):
    url = await routed(ready, protected=True)
    await ready.tokens({"wk-1": opened_by("ws-1", rate=parse("3/m")), "wk-2": opened_by("ws-2")})
    wrong = {"Authorization": "Bearer wk-1.ws-wrong"}  # counts for nobody
    assert [401] * 5 == await codes(visitor, url, *[wrong] * 5)
    assert [200] * 3 == await codes(visitor, url, *[ONE] * 3)
    pair = {"Modal-Key": "wk-1", "Modal-Secret": "ws-1"}
    tricks = [
        ONE,
        pair,
        {**ONE, "X-Forwarded-For": "6.6.6.6"},
        {**ONE, "Forwarded": "for=6.6.6.6", "X-Real-IP": "6.6.6.6"},
        {"AUTHORIZATION": "Bearer wk-1.ws-1"},
        {"Authorization": "bearer wk-1.ws-1"},
        {"Authorization": "Bearer   wk-1.ws-1"},
        {"Authorization": "Bearer wk-1.ws-1.more"},
        [("Modal-Key", "wk-2"), ("Modal-Key", "wk-1"), ("Modal-Secret", "ws-1")],
        [("Modal-Key", "wk-x, wk-1"), ("Modal-Secret", "ws-1")],
        [("Authorization", "Bearer wk-1.ws-1"), ("Authorization", "Bearer wk-1.ws-1")],
        {**pair, "Authorization": "Bearer wk-2.ws-1"},
        {**ONE, "Host": "x.localhost"},
    ]
    for number, headers in enumerate(tricks):
        answer = await visitor.get(f"{url}/%2e?{number}", headers=headers)
        assert answer.status_code in (401, 429), headers
    answer = await visitor.post(url, headers=ONE, content=b"x")

    assert (429, f"{HOUR_S // 3}") == (answer.status_code, answer.headers["retry-after"])
    assert "homeport: too many requests with this token\n" == answer.text
    assert [200] * 5 == await codes(visitor, url, *[TWO] * 5)
    assert {"wk-1": 3, "wk-2": 5} == await counts(ready)


async def test_an_endpoint_over_its_rate_gets_429_under_each_of_its_names(ready, visitor):
    shared = {"limited": PRICE, "hosts": ("price.localhost", "*.shop.example")}
    url = await routed(ready, **shared)
    version = await routed(ready, limited=PRICE)
    free = await routed(ready, limited=OTHER)
    main = f"http://127.0.0.1:{ready.http_port}/"
    await ready.rates({PRICE: parse("4/m")})
    assert [200] * 2 == await codes(visitor, url, {}, {})
    names = [{"Host": each} for each in ("price.localhost", "any.shop.example")]
    assert [200, 200] == await codes(visitor, main, *names)
    names = [{"Host": each} for each in ("PRICE.localhost:99", "other.shop.example")]

    assert [429, 429] == await codes(visitor, main, *names)
    assert [429] == await codes(visitor, version, {"X-Forwarded-For": "6.6.6.6"})
    answer = await visitor.get(url)
    assert (429, f"{HOUR_S // 4}") == (answer.status_code, answer.headers["retry-after"])
    assert [200] * 6 == await codes(visitor, free, *[{}] * 6)
    await ready.rates({})
    assert [200] * 2 == await codes(visitor, url, {}, {})


async def test_a_token_over_its_rate_does_not_use_up_the_endpoint(ready, visitor):
    url = await routed(ready, protected=True, limited=PRICE)
    await ready.rates({PRICE: parse("4/m")})
    await ready.tokens({"wk-1": opened_by("ws-1", rate=parse("2/m")), "wk-2": opened_by("ws-2")})

    assert [200, 200, *[429] * 6] == await codes(visitor, url, *[ONE] * 8)
    assert [401] * 6 == await codes(visitor, url, *[{}] * 6)
    assert [200, 200, 429] == await codes(visitor, url, *[TWO] * 3)


async def test_a_rate_comes_back_after_its_period(start, upstream, visitor, monkeypatch):
    monkeypatch.setitem(PERIODS_S, "s", 5)
    ingress, one = await start(), await upstream("one")
    await ingress.attach(POOL, "one", one.address, 20)
    url = await routed(ingress, limited=PRICE)
    await ingress.rates({PRICE: parse("1/s")})

    async def refused():
        return [429] == await codes(visitor, url, {})

    async def passes():
        return [200] == await codes(visitor, url, {})

    await until(refused, "a refusal")
    await until(passes, "the next period")


async def test_tokens_and_limits_are_there_again_after_a_kill_of_haproxy(ready, visitor):
    url = await routed(ready, protected=True, realms=(APP, PRICE), limited=PRICE)
    await ready.tokens({f"{APP}/wk-1": opened_by("ws-1", rate=parse("2/m"))})
    await ready.rates({PRICE: parse("9/m")})
    assert [200, 200, 429] == await codes(visitor, url, *[ONE] * 3)
    before = ready.pid
    os.kill(before, signal.SIGKILL)
    await until(lambda: ready.pid not in (0, before), "another process")

    assert [200, 200, 429, 401] == await codes(visitor, url, ONE, ONE, ONE, TWO)


async def test_the_ingress_knows_when_a_token_was_used(ready, visitor):
    url = await routed(ready, protected=True)
    await ready.tokens({"wk-1": opened_by("ws-1"), "wk-2": opened_by("ws-2")})
    assert {} == await ready.tokens_used()
    await codes(visitor, url, ONE, {"Authorization": "Bearer wk-2.ws-x"}, {})

    (name, age_s) = next(iter((await ready.tokens_used()).items()))
    assert "wk-1" == name
    assert 0 <= age_s < 60


def test_a_table_that_is_empty_or_damaged_has_no_tokens():
    assert {} == used("# table: token_rates, type: string, size:20480, used:0\n\n")
    assert {} == used("Unknown table\n")


PREFLIGHT = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}


async def test_a_preflight_needs_a_token_unless_the_setting_says_otherwise(ready, visitor):
    url = await routed(ready, protected=True)

    assert 401 == (await visitor.options(url, headers=PREFLIGHT)).status_code


async def test_with_the_setting_a_preflight_passes_and_nothing_else(start, upstream, visitor):
    ingress, one = await start(cors_preflights="pass"), await upstream("one")
    await ingress.attach(POOL, "one", one.address, 20)
    url = await routed(ingress, protected=True, limited=PRICE)
    overridden = {**PREFLIGHT, "X-HTTP-Method-Override": "POST", "X-HTTP-Method": "POST"}
    answer = await visitor.options(url, headers=overridden)

    assert 200 == answer.status_code
    assert [] == [name for name in answer.json()["headers"] if name.startswith("x-http-method")]
    for method, headers in (
        ("POST", PREFLIGHT),
        ("GET", PREFLIGHT),
        ("OPTIONS", {"Origin": "https://shop.example"}),
        ("OPTIONS", {"Access-Control-Request-Method": "POST"}),
        ("OPTIONS", {}),
    ):
        refused = await visitor.request(method, url, headers=headers)
        assert 401 == refused.status_code, (method, headers)
    await ingress.rates({PRICE: parse("1/m")})
    answers = [(await visitor.options(url, headers=PREFLIGHT)).status_code for _ in range(2)]
    assert 429 == answers[-1]


async def test_many_at_once_are_counted_exactly_enough(ready, visitor):
    url = await routed(ready, limited=PRICE)
    await ready.rates({PRICE: parse("20/m")})
    answers = await asyncio.gather(*(visitor.get(url) for _ in range(60)))
    passed = sum(answer.status_code == 200 for answer in answers)

    assert 20 <= passed <= 20 + (os.cpu_count() or 1)  # each thread of HAProxy may be one ahead
