"""Names are unique in an environment, and one environment does not see another one's rows."""

from pathlib import Path

import pytest

from homeport.contract.errors import NotFound
from homeport.contract.manifest import Manifest
from homeport.contract.scope import MAIN, Scope
from homeport.state import schema, urls
from homeport.state.coldstarts import ColdStart, ColdStarts
from homeport.state.database import Database
from homeport.state.rows import TokenRow
from homeport.state.scope import Scoped, folder
from homeport.state.secret_rows import SecretRows
from homeport.state.store import Stores
from homeport.state.tokens import TokenRows

MANIFEST = Manifest(app_name="shop", functions=())


@pytest.mark.parametrize(
    "scope", [Scope(environment="dev"), Scope(workspace="ada"), Scope("a", "b")], ids=str
)
async def test_an_environment_has_apps_secrets_and_tokens_of_its_own(
    scope, database_setting, tmp_path
):
    database = Database(urls.of(database_setting, tmp_path))
    schema.prepare(database)
    stores = Stores(database)
    main, other, tokens = stores.of(MAIN), stores.of(scope), TokenRows(database)
    ours, theirs = SecretRows(database), SecretRows(database, scope)
    for number, store in enumerate((main, other, main)):
        revision = await store.add_revision(f"rv-{number}", "shop", MANIFEST, f"f{number}", "")
        await store.serve_revision(revision, {f"{store.scope}--f": 4664 + number})
        secrets = SecretRows(database, store.scope)
        await secrets.put("auth", bytes([number]), ["A"], inline=False)
        await secrets.put(f"f{number}/f/0", b"i", [], inline=True)
        token = TokenRow(id=f"wk-{number}", name="", secret_sha256="a" * 64, created_at=number)
        await tokens.add(store.scope, token)
    starts = ColdStarts(database)
    start = {"at": 1.0, "app": "shop", "function": "f", "revision": "rv", "origin": "forked"}
    for number, where in enumerate((MAIN, scope)):
        starts.add(ColdStart(container=f"ta-{number}", within=where, **start))
    await starts.close()
    await other.stop_app("shop")
    await theirs.forget_inline([])

    assert [2, 1] == [revision.version for revision in await main.revisions("shop")]
    assert [(scope, 1)] == [(r.scope, r.version) for r in await other.revisions("shop")]
    assert (await main.app("shop")).stopped_at is None
    assert (await other.app("shop")).stopped_at is not None
    assert {MAIN, scope} == {where for where, _ in await stores.apps()}
    assert {"main/main--f": 4666} == await main.local_ports()
    assert {"main/main--f": 4666, f"{scope}--f": 4665} == await stores.local_ports()
    assert {"auth", "f0/f/0", "f2/f/0"} == set(await ours.sealed())
    assert b"\x02" == (await ours.sealed())["auth"]
    assert {"auth": b"\x01", "f1/f/0": b"i"} == await theirs.sealed()
    assert ["wk-0", "wk-2"] == [token.id for token in await tokens.of(MAIN)]
    assert {(MAIN, "wk-0"), (scope, "wk-1"), (MAIN, "wk-2")} == {
        (where, token.id) for where, token in await tokens.every()
    }
    assert not await tokens.delete(scope, "wk-0")
    await other.remove_revision("rv-0")
    await theirs.delete("auth")
    with pytest.raises(NotFound):
        await other.revision("shop", 2)
    assert "auth" in await ours.sealed()
    assert 2 == len(await main.revisions("shop"))
    for cold_starts in (starts, ColdStarts(database)):
        assert ["ta-1"] == [start.container for start in await cold_starts.last(scope, "shop", 9)]
    await database.close()


async def test_revisions_whose_deploy_did_not_end_are_forgotten_in_each_environment(
    database_setting, tmp_path
):
    database = Database(urls.of(database_setting, tmp_path))
    schema.prepare(database)
    stores = Stores(database)
    main, other = stores.of(MAIN), stores.of(Scope(environment="dev"))
    served = await main.add_revision("rv-1", "shop", MANIFEST, "f", "")
    await main.serve_revision(served, {})
    await other.add_revision("rv-2", "shop", MANIFEST, "f", "")
    await stores.forget_unserved()

    assert ["rv-1"] == [revision.id for revision in await main.revisions("shop")]
    assert [] == await other.revisions("shop")
    await database.close()


def test_files_of_the_main_environment_are_where_they_always_were():
    assert Path("logs/shop.jsonl") == Path("logs") / folder(MAIN) / "shop.jsonl"
    assert Path("ada/dev") == folder(Scope("ada", "dev"))


def test_each_scope_has_one_object_until_it_is_forgotten():
    scoped, other = Scoped(lambda scope: [str(scope)]), Scope(environment="dev")
    main, dev = scoped.of(MAIN), scoped.of(other)
    assert (["main/main"], ["main/dev"]) == (main, dev)
    assert scoped.of(MAIN) is main
    assert [main, dev] == [*scoped]
    scoped.forget(other)
    scoped.forget(other)

    assert [main] == [*scoped]
    assert scoped.of(other) is not dev
