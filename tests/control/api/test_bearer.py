"""The guard of the listeners for other machines."""

import asyncio
import logging
import time

import httpx
import pytest
from starlette.responses import JSONResponse

from homeport.contract.permissions import Permission
from homeport.control.api.access import BY_GUARD, Caller
from homeport.control.api.attempts import MOST, WrongTokens
from homeport.control.api.bearer import Bearer
from homeport.control.api.router import Router
from homeport.control.api.routing import route
from homeport.state.api_tokens import ApiTokens

LONG = "x" * 20


@pytest.fixture
async def tokens(database):
    return ApiTokens(database)


async def create(tokens, **given):
    wanted = {"workspace": "main", "name": "ci", "user": "ada", "scopes": (Permission.DEPLOY,)}
    return await tokens.create(**{**wanted, "environments": (), "expires_s": None, **given})


class Who:
    """A noun that says who asks."""

    @route("GET", "/")
    async def who(self, caller: Caller) -> JSONResponse:
        """Say it."""
        return JSONResponse(
            {
                "by": caller.by,
                "name": caller.name,
                "token": caller.token,
                "source": caller.source,
                "environments": sorted(caller.environments or ()),
                "permissions": sorted(each.value for each in caller.permissions),
            }
        )


def app():
    return Router([Who()], None, None)


class Http:
    def __init__(self, guarded):
        self._transport = httpx.ASGITransport(guarded, client=("192.0.2.1", 1))

    async def ask(self, *authorization):
        headers = [("Authorization", value) for value in authorization]
        async with httpx.AsyncClient(transport=self._transport, base_url="http://homeport") as http:
            return await http.get("/", headers=headers)


async def test_a_token_says_who_the_caller_is(tokens):
    row, bearer = await create(tokens, environments=("main", "prod"))
    answer = await Http(Bearer(app(), tokens)).ask(f"Bearer {bearer}")

    assert {
        "by": "token",
        "name": "ada",
        "token": row.id,
        "source": "192.0.2.1",
        "environments": ["main", "prod"],
        "permissions": ["deploy", "read"],
    } == answer.json()


async def test_the_token_of_the_settings_is_an_admins(tokens):
    answer = await Http(Bearer(app(), tokens, first="word")).ask("Bearer word")

    assert ["admin", "deploy", "read", "secrets"] == answer.json()["permissions"]


@pytest.mark.parametrize(
    "headers",
    [
        [],
        ["Bearer wor"],
        ["Bearer words"],
        ["bearer word"],
        ["word"],
        [""],
        ["Bearer "],
        ["Bearer"],
        ["Bearer no", "Bearer word"],
        ["Bearer caf\u00e9"],
    ],
)
@pytest.mark.parametrize("first", ["", "word"])
async def test_a_text_that_is_no_token_opens_nothing(tokens, headers, first):
    encoded = [each.encode("latin-1") for each in headers]
    answer = await Http(Bearer(app(), tokens, first=first)).ask(*encoded)

    assert (401, "Unauthorized") == (answer.status_code, answer.json()["error"]["kind"])
    assert "homeport login" in answer.json()["error"]["hint"]


async def test_many_wrong_tokens_block_an_address_and_never_a_right_one(tokens, caplog):
    _, bearer = await create(tokens)
    now = [0.0]
    guard = Bearer(app(), tokens, first=LONG, wrong=WrongTokens(lambda: now[0]))
    http = Http(guard)
    statuses = [(await http.ask("Bearer wrong-secret")).status_code for _ in range(MOST)]
    blocked = await http.ask("Bearer wrong-secret")

    assert [401] * MOST == statuses
    assert (429, "60") == (blocked.status_code, blocked.headers["Retry-After"])
    assert "TooMany" == blocked.json()["error"]["kind"]
    assert "1" == blocked.headers[BY_GUARD]
    right = await http.ask(f"Bearer {bearer}")
    assert 200 == right.status_code
    assert BY_GUARD not in right.headers
    assert 200 == (await http.ask(f"Bearer {LONG}")).status_code
    assert ["many wrong tokens came from '192.0.2.1'"] == [r.message for r in caplog.records]
    now[0] = 60.0
    assert 401 == (await http.ask("Bearer wrong-secret")).status_code


async def test_a_short_token_of_the_settings_cannot_be_guessed_from_a_blocked_address(tokens):
    http = Http(Bearer(app(), tokens, first="word"))
    for _ in range(MOST):
        await http.ask("Bearer wrong")

    assert 429 == (await http.ask("Bearer word")).status_code


async def test_requests_without_a_token_are_no_guesses(tokens):
    http = Http(Bearer(app(), tokens, first="word"))
    for _ in range(MOST + 1):
        assert 401 == (await http.ask()).status_code

    assert 200 == (await http.ask("Bearer word")).status_code


async def test_no_token_is_in_the_log(tokens, caplog):
    caplog.set_level(logging.DEBUG)
    row, bearer = await create(tokens)
    http = Http(Bearer(app(), tokens, first="word-of-the-settings"))
    for given in [bearer, f"{row.id}.wrong-secret", "word-of-the-settings"] * (MOST + 1):
        await http.ask(f"Bearer {given}")

    for secret in (bearer.partition(".")[2], "wrong-secret", "word-of-the-settings"):
        assert secret not in caplog.text


class Stuck:
    """A handler that answers when it is told to, and says whether it was cancelled."""

    def __init__(self):
        self.begun, self.ended = asyncio.Event(), asyncio.Event()

    async def __call__(self, scope, receive, send):
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended.set()


def asked(guard, bearer):
    """Send a request that does not end by itself."""
    scope = {
        "type": "http",
        "headers": [(b"authorization", f"Bearer {bearer}".encode())],
        "client": ("192.0.2.1", 1),
    }

    async def never():
        await asyncio.Event().wait()

    return asyncio.create_task(guard(scope, never, never))


async def test_a_stream_ends_when_its_token_is_deleted(tokens):
    stuck, others = Stuck(), Stuck()
    row, bearer = await create(tokens)
    _, other = await create(tokens)
    one, two = asked(Bearer(stuck, tokens), bearer), asked(Bearer(others, tokens), other)
    await stuck.begun.wait()
    await others.begun.wait()
    await tokens.delete("main", row.id)
    async with asyncio.timeout(60):
        await one

    assert stuck.ended.is_set()
    assert not others.ended.is_set()
    two.cancel()
    await asyncio.wait({two})
    assert others.ended.is_set()


async def test_a_stream_ends_when_its_token_expires(database):
    ahead = [0.0]
    tokens = ApiTokens(database, lambda: time.time() + ahead[0])
    ahead[0] = -3599.9  # so that the token has a tenth of a second left
    _, bearer = await create(tokens, expires_s=3600.0)
    stuck = Stuck()
    async with asyncio.timeout(60):
        await asked(Bearer(stuck, tokens), bearer)

    assert stuck.ended.is_set()
