"""The store: what remains after a restart of the server."""

import asyncio

import pytest

from homeport.contract.errors import (
    AlreadyExists,
    BadRequest,
    NotFound,
    SecretMissing,
    StorageError,
)
from homeport.contract.manifest import FunctionSpec, Manifest, SecretRef
from homeport.state import schema, urls
from homeport.state.database import Database
from homeport.state.secret_rows import SecretRows
from homeport.state.secrets import SecretBox
from homeport.state.store import Store
from homeport.state.vault import Vault


def opened(setting: str, home) -> Database:
    database = Database(urls.of(setting, home))
    schema.prepare(database)
    return database


@pytest.fixture
async def store(database_setting, tmp_path):
    database = opened(database_setting, tmp_path)
    yield Store(database)
    await database.close()


@pytest.fixture
def box(store, tmp_path):
    return SecretBox(SecretRows(store.database), Vault(tmp_path / "vault.key"))


async def seal(box: SecretBox, wanted: Manifest) -> tuple[Manifest, str]:
    async with box.sealing(wanted) as sealed:
        return sealed


def manifest(*secrets, name="hello"):
    spec = FunctionSpec(name=name, module="m", qualname=name, secrets=secrets)
    return Manifest(app_name="app", functions=(spec,))


async def test_versions_count_from_one_and_the_newest_is_first(store):
    for tag in ("a", "b", "c"):
        await store.add_revision(f"rv-{tag}", "app", manifest(), "f", tag)

    assert [(r.version, r.tag) for r in await store.revisions("app")] == [
        (3, "c"),
        (2, "b"),
        (1, "a"),
    ]
    assert manifest() == (await store.revision("app", 2)).manifest


async def test_an_app_remembers_its_revision_and_ports_over_a_restart(
    store, database_setting, tmp_path
):
    first = await store.add_revision("rv-1", "app", manifest(), "f", "")
    await store.serve_revision(first, {"me--app-hello": 4664})
    first = await store.app("app")
    await store.stop_app("app")
    second = await store.add_revision("rv-2", "app", manifest(), "g", "")
    await store.serve_revision(second, {"me--app-hello": 4664})
    await store.database.close()
    again = Store(opened(database_setting, tmp_path))
    row = await again.app("app")
    ports = await again.local_ports()
    await again.database.close()

    assert (row.version, row.stopped_at) == (2, None)
    assert first.app_id == row.app_id
    assert {"me--app-hello": 4664} == ports


async def test_an_undone_change_gives_endpoints_back_to_those_who_had_them(store):
    for name, endpoints in (("a", {"x": 1, "y": 2}), ("b", {"own": 3})):
        revision = await store.add_revision(f"rv-{name}", name, manifest(), "f", "")
        await store.serve_revision(revision, endpoints)
    before, apps = await store.served("b"), await store.apps()
    taker = await store.add_revision("rv-b2", "b", manifest(), "f", "")
    await store.serve_revision(taker, {"x": 9, "new": 4})
    taken = await store.local_ports()
    await store.put_back("b", before)

    assert {"y": 2, "x": 9, "new": 4} == taken
    assert {"x": 1, "y": 2, "own": 3} == await store.local_ports()
    assert before == await store.served("b")
    assert apps == await store.apps()


async def test_an_undone_first_change_leaves_no_app(store):
    before = await store.served("b")
    first = await store.add_revision("rv-b", "b", manifest(), "f", "")
    await store.serve_revision(first, {"x": 1})
    await store.put_back("b", before)

    assert {} == await store.local_ports()
    assert await store.app("b") is None


async def test_a_missing_version_is_named(store):
    with pytest.raises(NotFound, match="no version v7"):
        await store.revision("app", 7)


def test_a_file_that_is_no_database_is_a_clear_error(tmp_path):
    (tmp_path / "homeport.db").write_text("not a database, by any means" * 100)

    with pytest.raises(StorageError, match="not a database"):
        opened("", tmp_path)


async def test_values_are_not_on_disk(store, box, tmp_path):
    await box.create("auth", {"TOKEN": "hunter2-hunter2"}, force=False)
    await seal(box, manifest(SecretRef(values={"TOKEN": "hunter3-hunter3"})))
    await store.database.close()
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())

    assert b"hunter" not in written


async def test_a_later_secret_wins_and_inline_ones_are_sealed(box):
    await box.create("db", {"A": "1", "B": "1"}, force=False)
    sealed, _ = await seal(box, manifest(SecretRef(name="db"), SecretRef(values={"B": "hunter2"})))

    assert box.environ(sealed.functions[0]) == {"A": "1", "B": "hunter2"}
    assert "hunter2" not in str(sealed)


async def test_a_changed_secret_is_another_fingerprint(box):
    await box.create("db", {"A": "1"}, force=False)
    before = (await seal(box, manifest(SecretRef(name="db"))))[1]
    same = (await seal(box, manifest(SecretRef(name="db"))))[1]
    await box.create("db", {"A": "2"}, force=True)

    assert before == same
    assert before != (await seal(box, manifest(SecretRef(name="db"))))[1]


async def test_a_missing_secret_names_the_command_that_creates_it(box):
    with pytest.raises(SecretMissing) as failure:
        box.check(manifest(SecretRef(name="auth", required_keys=("TOKEN",))).functions[0])

    assert "`homeport secret create auth TOKEN=…`" in failure.value.hint


async def test_a_missing_key_is_named(box):
    await box.create("auth", {"A": "1"}, force=False)
    with pytest.raises(SecretMissing, match="lacks `B`"):
        box.check(manifest(SecretRef(name="auth", required_keys=("A", "B"))).functions[0])


async def test_a_deleted_secret_is_in_no_container_from_then_on(box):
    await box.create("auth", {"A": "1"}, force=False)
    await box.delete("auth")
    with pytest.raises(SecretMissing):
        box.environ(manifest(SecretRef(name="auth")).functions[0])
    with pytest.raises(NotFound, match="there is no secret `auth`"):
        await box.delete("auth")

    assert [] == await box.list()


async def test_a_secret_is_replaced_only_by_force(box):
    await box.create("auth", {"A": "1"}, force=False)
    with pytest.raises(AlreadyExists):
        await box.create("auth", {"A": "2"}, force=False)
    await box.create("auth", {"A": "2"}, force=True)

    assert box.environ(manifest(SecretRef(name="auth")).functions[0]) == {"A": "2"}


async def test_of_two_that_create_a_secret_at_once_one_is_told_that_it_exists(box):
    first, second = await asyncio.gather(
        *(box.create("auth", {"A": value}, force=False) for value in "12"), return_exceptions=True
    )

    assert (["A"], AlreadyExists) == (first, type(second))
    assert box.environ(manifest(SecretRef(name="auth")).functions[0]) == {"A": "1"}


@pytest.mark.parametrize(
    ("name", "values"),
    [("a b", {"A": "1"}), ("ok", {}), ("ok", {"1A": "x"}), ("ok", {"A": "\0"}), ("ok", {"A": 3})],
)
async def test_a_secret_that_no_process_could_have_in_its_variables_is_refused(box, name, values):
    with pytest.raises(BadRequest):
        await box.create(name, values, force=False)


async def test_another_key_cannot_open_a_secret(box, store, tmp_path):
    await box.create("auth", {"A": "1"}, force=False)
    stranger = SecretBox(SecretRows(store.database), Vault(tmp_path / "other.key"))
    await stranger.load()

    with pytest.raises(StorageError, match="cannot be decrypted"):
        stranger.environ(manifest(SecretRef(name="auth")).functions[0])
