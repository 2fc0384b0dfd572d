"""Sealed secrets in a real database: named ones, and those that came with a manifest."""

import pytest
from sqlalchemy import update

from homeport.contract.manifest import Manifest
from homeport.state import tables
from homeport.state.scope import Scope
from homeport.state.secret_rows import SecretRows
from homeport.state.store import Store


@pytest.fixture
def secrets(database):
    return SecretRows(database)


async def test_named_secrets_are_listed_in_the_order_of_their_names_without_inline_ones(secrets):
    await secrets.put("b", b"1", ["KEY", "OTHER"], inline=False)
    await secrets.put("a", b"2", [], inline=False)
    await secrets.put("f/web/0", b"3", [], inline=True)

    assert [("a", ()), ("b", ("KEY", "OTHER"))] == [(s.name, s.keys) for s in await secrets.named()]
    assert {"a": b"2", "b": b"1", "f/web/0": b"3"} == await secrets.sealed()


async def test_a_secret_that_is_put_again_has_the_new_value_and_its_first_date(secrets):
    await secrets.put("a", b"1", ["KEY"], inline=False)
    (before,) = await secrets.named()
    await secrets.put("a", b"2", ["OTHER"], inline=False)
    (after,) = await secrets.named()

    assert {"a": b"2"} == await secrets.sealed()
    assert (before.created_at, ("OTHER",)) == (after.created_at, after.keys)
    assert after.updated_at > before.updated_at


async def test_only_named_secrets_can_be_deleted(secrets):
    await secrets.put("a", b"1", [], inline=False)
    await secrets.put("f/web/0", b"2", [], inline=True)

    assert [True, False, False] == [await secrets.delete(name) for name in ("a", "a", "f/web/0")]
    assert {"f/web/0": b"2"} == await secrets.sealed()


async def test_inline_secrets_go_unless_a_revision_or_the_caller_needs_them(secrets, database):
    manifest = Manifest(app_name="shop", functions=())
    await Store(database).add_revision("rv-1", "shop", manifest, "saved", "")
    for name in ("saved/f/0", "held/f/0", "old/f/0", "old/f/1"):
        await secrets.put(name, b"x", [], inline=True)
    await secrets.put("old", b"y", [], inline=False)

    assert ["old/f/0", "old/f/1"] == sorted(await secrets.forget_inline(["held"]))
    assert [] == await secrets.forget_inline(["held"])
    assert {"saved/f/0", "held/f/0", "old"} == set(await secrets.sealed())


async def test_a_secret_with_damaged_keys_is_listed_without_them(secrets, database):
    await secrets.put("a", b"1", ["KEY"], inline=False)
    await database.write(lambda c: c.execute(update(tables.secrets).values(keys="{")))

    assert [("a", ())] == [(secret.name, secret.keys) for secret in await secrets.named()]


async def test_an_environment_changes_and_forgets_its_own_secrets_alone(secrets, database):
    staging = SecretRows(database, Scope(environment="staging"))
    manifest = Manifest(app_name="shop", functions=())
    await Store(database).add_revision("rv-1", "shop", manifest, "saved", "")  # in MAIN
    for rows, value in ((secrets, b"main"), (staging, b"staging")):
        await rows.put("a", value, [], inline=False)
        await rows.put("saved/f/0", value, [], inline=True)
        await rows.put("old/f/0", value, [], inline=True)
    await staging.put("a", b"changed", [], inline=False)
    assert ["old/f/0", "saved/f/0"] == sorted(await staging.forget_inline([]))
    assert {"a": b"changed"} == await staging.sealed()
    assert await staging.delete("a")

    assert [] == await staging.named()
    assert {"a": b"main", "saved/f/0": b"main", "old/f/0": b"main"} == await secrets.sealed()
