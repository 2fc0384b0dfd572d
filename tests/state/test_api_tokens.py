"""Tokens of the API: what opens, what does not any more, and what is on the disk."""

import asyncio

import pytest
from sqlalchemy import text

from homeport.contract.errors import BadRequest, NotFound, StorageError, Unauthorized
from homeport.contract.permissions import Permission
from homeport.state import api_tokens
from homeport.state.api_tokens import ApiTokens
from tests.clock import Clock

DEPLOY = (Permission.DEPLOY,)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def tokens(database, clock):
    return ApiTokens(database, clock)


async def create(tokens, *, name="ci", user="ada", scopes=DEPLOY, environments=(), expires_s=None):
    return await tokens.create(
        workspace="main",
        name=name,
        user=user,
        scopes=scopes,
        environments=environments,
        expires_s=expires_s,
    )


async def test_a_token_opens_with_its_secret_alone(tokens):
    row, bearer = await create(tokens)
    other, _ = await create(tokens)
    secret = bearer.partition(".")[2]

    assert row == tokens.verified(bearer)
    for wrong in (
        "",
        ".",
        row.id,
        secret,
        f"{row.id}.",
        f"{row.id}.{secret}x",
        f"{row.id}.{secret[:-1]}",
        f"{other.id}.{secret}",
        f" {bearer}",
        f"{row.id}.{row.secret_sha256}",
        f"{row.id}.caf\u00e9\udcff",
    ):
        assert tokens.verified(wrong) is None, wrong


async def test_the_secret_is_nowhere_on_the_disk(tokens, database):
    row, bearer = await create(tokens)
    query = text("SELECT * FROM api_tokens")
    (kept,) = await database.read(lambda c: list(c.execute(query).mappings()))

    assert bearer.partition(".")[2] not in str(dict(kept))
    assert row.secret_sha256 == kept["secret_sha256"]


async def test_a_token_expires(tokens, clock):
    _, bearer = await create(tokens, expires_s=60.0)
    clock.at += 59.0
    assert tokens.verified(bearer)
    clock.at += 1.0
    assert tokens.verified(bearer) is None


async def test_a_deleted_token_opens_nothing_and_its_watchers_are_told(tokens):
    ended = []
    tokens.watch(ended.append)
    row, bearer = await create(tokens)
    await tokens.delete("main", row.id)

    assert tokens.verified(bearer) is None
    assert [row.id] == ended
    with pytest.raises(NotFound):
        await tokens.delete("main", row.id)


async def test_no_workspace_sees_or_deletes_another_ones_tokens(tokens):
    row, bearer = await create(tokens)

    assert [] == tokens.every("b")
    with pytest.raises(NotFound):
        await tokens.delete("b", row.id)
    with pytest.raises(NotFound):
        await tokens.delete_user("b", "ada")
    assert tokens.verified(bearer)
    assert [row.id] == [token.id for token in tokens.every(None)]
    await tokens.delete(None, row.id)  # the server's admin
    assert not tokens.verified(bearer)


async def test_the_tokens_of_a_user_are_deleted_together(tokens):
    first, text = await create(tokens)
    second, second_text = await create(tokens)
    _, others = await create(tokens, user="grace")

    assert [first.id, second.id] == await tokens.delete_user("main", "ada")
    assert (None, None) == (tokens.verified(text), tokens.verified(second_text))
    assert tokens.verified(others)


async def test_another_server_finds_the_tokens_and_when_they_were_used(tokens, database, clock):
    _, bearer = await create(tokens, environments=("prod", "dev"), expires_s=3600.0)
    clock.at += 1.0
    await create(tokens, name="idle")
    tokens.verified(bearer)
    await tokens.close()
    later = ApiTokens(database, clock)
    await later.load()

    used, idle = later.every("main")
    assert (1001.0, None) == (used.used_at, idle.used_at)
    assert ("dev", "prod") == api_tokens.environments_of(used)
    assert DEPLOY == api_tokens.scopes_of(used)
    assert used.id == later.verified(bearer).id


async def test_a_damaged_row_opens_nothing_and_the_others_go_on(tokens, database):
    row, bearer = await create(tokens)
    _, good = await create(tokens)
    # To compare a secret's hash with a text that is not ASCII is an error of Python's.
    for column, value in (("secret_sha256", "x"), ("secret_sha256", "é" * 64), ("scopes", "root")):
        query = text(f"UPDATE api_tokens SET {column} = :value WHERE id = :id")
        bound = {"value": value, "id": row.id}
        await database.write(lambda c, query=query, bound=bound: c.execute(query, bound))
        later = ApiTokens(database)
        await later.load()

        assert later.verified(bearer) is None
        assert later.verified(good)


async def test_the_number_of_tokens_is_bounded(tokens, monkeypatch):
    monkeypatch.setattr(api_tokens, "MAX_TOKENS", 2)
    first, _ = await create(tokens)
    await create(tokens)
    with pytest.raises(BadRequest, match="there are 2 tokens"):
        await create(tokens)
    await tokens.delete("main", first.id)

    assert await create(tokens)


async def test_a_use_that_could_not_be_written_is_written_later(tokens, database, clock, caplog):
    row, bearer = await create(tokens)
    tokens.verified(bearer)
    write = database.write

    async def full(_work):
        raise StorageError("the disk is full")

    database.write = full
    await tokens.close()
    database.write = write
    assert "when tokens were used is not written: the disk is full" in caplog.text
    assert clock.at == tokens.find("main", row.id).used_at
    await tokens.close()
    later = ApiTokens(database, clock)
    await later.load()

    assert clock.at == later.find("main", row.id).used_at


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"name": "x" * 65}, "at most 64 printable"),
        ({"name": "a\nb"}, "at most 64 printable"),
        ({"user": "a b"}, "a user's name has letters"),
        ({"scopes": ()}, "a token needs a scope"),
        ({"environments": ("a,b",)}, "an environment's name"),
        ({"scopes": (Permission.ADMIN,), "environments": ("prod",)}, "is for all environments"),
        ({"expires_s": 0.0}, "expires after more than 0 seconds"),
        ({"expires_s": 1e12}, "less than 100 years"),
    ],
)
async def test_a_token_that_cannot_be_is_refused(tokens, wrong, words):
    with pytest.raises(BadRequest, match=words):
        await create(tokens, **wrong)
    assert [] == tokens.every("main")


async def test_another_workspace_has_no_admins(tokens):
    with pytest.raises(BadRequest, match="has admins"):
        await tokens.create(
            workspace="b",
            name="",
            user="",
            scopes=(Permission.ADMIN,),
            environments=(),
            expires_s=None,
        )


def session(tokens, parent):
    """Create a session of the dashboard with a token."""
    return tokens.create_session(
        parent=parent,
        workspace="main",
        user="ada",
        scopes=DEPLOY,
        environments=(),
        lasts_s=3600.0,
    )


@pytest.mark.parametrize("is_first", [True, False], ids=["the session first", "the deletion first"])
async def test_no_session_outlives_a_token_that_is_deleted_while_it_is_made(
    tokens, database, is_first
):
    row, _ = await create(tokens)
    other, _ = await create(tokens)
    made, deleted = session(tokens, row.id), tokens.delete("main", row.id)
    works = [made, deleted] if is_first else [deleted, made]
    await asyncio.gather(*works, return_exceptions=True)
    later = ApiTokens(database)
    await later.load()

    assert [other.id] == [row.id for row in tokens.every("main")]
    assert [other.id] == [row.id for row in later.every("main")]


async def test_the_sessions_of_a_session_go_with_the_first_token(tokens):
    row, _ = await create(tokens)
    first, bearer = await session(tokens, row.id)
    _, second = await session(tokens, first.id)
    _, of_the_server = await session(tokens, "")
    assert tokens.verified(bearer)
    assert tokens.verified(second)
    deleted, made = tokens.delete("main", row.id), session(tokens, first.id)
    await asyncio.gather(made, deleted, return_exceptions=True)

    assert [tokens.verified(one) for one in (bearer, second)] == [None, None]
    assert tokens.verified(of_the_server)
    assert 1 == len(tokens.every("main"))
    with pytest.raises(Unauthorized, match="was deleted"):
        await session(tokens, row.id)


async def test_no_token_outlives_a_workspace_that_is_deleted_while_it_is_made(tokens, database):
    """A later workspace of the same name would have it."""
    creating = asyncio.create_task(create(tokens))
    await asyncio.sleep(0)
    await tokens.delete_workspace("main")

    with pytest.raises(NotFound, match="was deleted"):
        await creating
    again = ApiTokens(database)
    await again.load()
    assert [] == tokens.every(None) == again.every(None)
    row, _ = await create(tokens)
    assert [row] == tokens.every("main")
