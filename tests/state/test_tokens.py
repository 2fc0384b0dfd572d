"""Proxy tokens and rate limits: what the ingress is told, and what is in the store."""

import asyncio
import hashlib

import pytest
from sqlalchemy import text

from homeport.contract.errors import BadRequest, IngressError, NotFound
from homeport.contract.rates import Rate
from homeport.state.rate_limits import RateLimitRow, RateLimits
from homeport.state.scope import MAIN, Scope
from homeport.state.tokens import Tokens, key_of, realm_of
from tests.clock import Clock
from tests.fakes import FakeIngress

STAGING = Scope(environment="staging")
HOUR_S = 3600.0


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def ingress():
    return FakeIngress()


@pytest.fixture
def tokens(database, ingress, clock):
    return Tokens(database, ingress, clock)


def digest(secret):
    return hashlib.sha256(secret.encode()).hexdigest()


async def test_a_token_opens_its_environment_or_what_it_names(tokens, ingress):
    every, secret = await tokens.create(MAIN, "all")
    staging, _ = await tokens.create(STAGING, "staging")
    narrow, _ = await tokens.create(MAIN, "narrow", scopes=("shop", "blog/post"))

    assert {
        every.id,
        f"{realm_of(STAGING)}/{staging.id}",
        f"{key_of(MAIN, 'shop')}/{narrow.id}",
        f"{key_of(MAIN, 'blog', 'post')}/{narrow.id}",
    } == set(ingress.valid)
    assert digest(secret) == ingress.valid[every.id].sha256


def test_no_two_things_have_one_key():
    apps = ("shop", "shop.a", "a")
    keys = {
        key_of(scope, app, tag) for scope in (MAIN, STAGING) for app in apps for tag in ("", "a")
    }

    assert 12 == len(keys)
    assert realm_of(STAGING) not in keys


@pytest.mark.parametrize("scope", ["", "/f", "shop/", "a b", "shop/f/g", "shop,blog", "a\nb", "*"])
async def test_a_scope_is_an_app_or_a_function(tokens, scope):
    with pytest.raises(BadRequest, match="is not an app or a function"):
        await tokens.create(MAIN, "", scopes=(scope,))


@pytest.mark.parametrize(
    "rate", ["10", "0/s", "10/h", "-1/s", "1e3/s", "10/s;", "1.5/s", "9999999/s"]
)
async def test_a_rate_has_a_number_and_a_unit(tokens, rate):
    with pytest.raises(BadRequest, match="a rate such as 10/s or 600/m is needed"):
        await tokens.create(MAIN, "", rate=rate)


async def test_the_ingress_gets_the_rate_and_the_expiry_of_a_token(tokens, ingress, clock):
    row, _ = await tokens.create(MAIN, "", rate="600/m", expires_s=HOUR_S)
    opened = ingress.valid[row.id]

    assert (Rate(600, "m"), 1000.0 + HOUR_S) == (opened.rate, opened.until)
    clock.at += HOUR_S
    await tokens.publish()
    assert {} == ingress.valid
    assert [row.id] == [token.id for token in await tokens.list(MAIN)]
    for wrong in (0.0, -1.0, 1e12):
        with pytest.raises(BadRequest, match="expires"):
            await tokens.create(MAIN, "", expires_s=wrong)


async def test_a_rotation_has_an_overlap_and_another_ends_it(tokens, ingress):
    row, first = await tokens.create(MAIN, "ci", scopes=("shop",), rate="5/s")
    _, second = await tokens.rotate(MAIN, row.id, overlap_s=24 * HOUR_S)
    (opened,) = ingress.valid.values()

    assert (digest(second), digest(first), 1000.0 + 24 * HOUR_S) == (
        opened.sha256,
        opened.former_sha256,
        opened.former_until,
    )
    assert Rate(5, "s") == opened.rate
    rotated, third = await tokens.rotate(MAIN, row.id, overlap_s=0.0, expires_s=HOUR_S)
    (opened,) = ingress.valid.values()
    assert (digest(third), "", 1000.0 + HOUR_S) == (
        opened.sha256,
        opened.former_sha256,
        opened.until,
    )
    assert [rotated] == await tokens.list(MAIN)


async def test_an_expired_token_is_rotated_only_with_a_new_end(tokens, clock):
    row, _ = await tokens.create(MAIN, "", expires_s=HOUR_S)
    clock.at += HOUR_S
    with pytest.raises(BadRequest, match="has expired"):
        await tokens.rotate(MAIN, row.id, overlap_s=0.0)
    rotated, _ = await tokens.rotate(MAIN, row.id, overlap_s=0.0, expires_s=HOUR_S)

    assert clock.at + HOUR_S == rotated.expires_at


async def test_no_environment_rotates_the_tokens_of_another(tokens):
    row, _ = await tokens.create(MAIN, "")
    with pytest.raises(NotFound):
        await tokens.rotate(STAGING, row.id, overlap_s=0.0)
    with pytest.raises(BadRequest):
        await tokens.rotate(MAIN, row.id, overlap_s=-1.0)


async def test_the_last_use_is_written_and_never_goes_back(tokens, ingress, clock):
    row, _ = await tokens.create(MAIN, "")
    await tokens.note_use()
    assert [None] == [token.used_at for token in await tokens.list(MAIN)]
    ingress.used = {row.id: 10.0, "wk-unknown": 1.0}
    await tokens.note_use()
    ingress.used = {row.id: 500.0}  # of another process, which began later
    await tokens.note_use()

    assert [990.0] == [token.used_at for token in await tokens.list(MAIN)]
    clock.at += 100.0
    ingress.used = {row.id: 0.0}
    await tokens.close()
    assert [1100.0] == [token.used_at for token in await tokens.list(MAIN)]
    await tokens.rotate(MAIN, row.id, overlap_s=0.0)
    assert [1100.0] == [token.used_at for token in await tokens.list(MAIN)]


async def test_an_ingress_that_does_not_answer_stops_nothing(tokens, ingress, caplog):
    async def fail():
        raise IngressError("HAProxy does not answer")

    ingress.tokens_used = fail
    await tokens.close()

    assert "when proxy tokens were used is not written" in caplog.text


async def test_a_damaged_row_opens_nothing(tokens, ingress, database):
    good, _ = await tokens.create(MAIN, "")
    for change in ("rate = '10/x'", "secret_sha256 = 'x'", "former_sha256 = 'x'"):
        bad, _ = await tokens.create(MAIN, "")
        query = text(f"UPDATE proxy_tokens SET {change} WHERE id = :id")
        await database.write(lambda c, q=query, i=bad.id: c.execute(q, {"id": i}))
    await tokens.publish()

    assert [good.id] == list(ingress.valid)


def limit(rate, scope=MAIN, tag="price"):
    return RateLimitRow(
        workspace=scope.workspace,
        environment=scope.environment,
        app="shop",
        tag=tag,
        rate=rate,
        created_at=1.0,
    )


async def test_a_limit_is_replaced_and_removed_in_its_environment_alone(database, ingress):
    limits = RateLimits(database, ingress)
    await limits.set(limit("10/s"))
    await limits.set(limit("5/s", STAGING))
    await limits.set(limit("600/m"))

    assert {
        key_of(MAIN, "shop", "price"): Rate(600, "m"),
        key_of(STAGING, "shop", "price"): Rate(5, "s"),
    } == ingress.limits
    assert [limit("600/m")] == await limits.of(MAIN)
    await limits.remove(MAIN, "shop", "price")
    with pytest.raises(NotFound, match="has no rate limit"):
        await limits.remove(MAIN, "shop", "price")
    assert [key_of(STAGING, "shop", "price")] == list(ingress.limits)


@pytest.mark.parametrize("what", ["token", "limit"])
async def test_the_ingress_has_the_last_change_though_an_earlier_one_takes_longer(
    database, tokens, ingress, what
):
    limits = RateLimits(database, ingress)
    row, _ = await tokens.create(MAIN, "")
    await limits.set(limit("10/s"))
    name = {"token": "tokens", "limit": "rates"}[what]
    tell, is_inside, go_on = getattr(ingress, name), asyncio.Event(), asyncio.Event()

    async def slowly(rows):
        setattr(ingress, name, tell)
        is_inside.set()
        await go_on.wait()
        await tell(rows)

    setattr(ingress, name, slowly)
    earlier = asyncio.create_task(tokens.publish() if what == "token" else limits.publish())
    await is_inside.wait()
    last = asyncio.create_task(
        tokens.delete(MAIN, row.id) if what == "token" else limits.remove(MAIN, "shop", "price")
    )
    await asyncio.wait({last}, timeout=0.1)  # time enough to overtake the earlier one
    go_on.set()
    await asyncio.gather(earlier, last)

    assert {} == (ingress.valid if what == "token" else ingress.limits)
