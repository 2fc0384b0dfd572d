"""The machines that have joined, in a backup and after a restore."""

import pytest
from sqlalchemy import select

from homeport.link.authority import Authority
from homeport.settings import Settings
from homeport.state import backup, tables, urls
from homeport.state.database import Database
from homeport.state.nodes import Nodes
from tests.state.test_backup import fill


@pytest.fixture
def settings(database_setting, tmp_path):
    return Settings(home=tmp_path / "home", database=database_setting)


async def with_nodes(settings: Settings, *names: str) -> Nodes:
    """Let machines join, and return them; the CA is made once."""
    (settings.home / "cluster").mkdir(exist_ok=True)
    authority = Authority(settings.home / "cluster")
    authority.open()
    database = Database(urls.of(settings.database, settings.home))
    nodes = Nodes(database)
    await nodes.load()
    for name in names:
        await nodes.add_token(name * 64, 60)
        await nodes.join(name * 64, name, name * 32)
    await nodes.add_token("f" * 64, 60)
    return nodes


async def joined(settings: Settings) -> tuple[set[str], int, str]:
    """Return the machines, how many tokens there are, and the CA's fingerprint."""
    database = Database(urls.of(settings.database, settings.home))
    nodes = Nodes(database)
    await nodes.load()
    tokens = await database.read(lambda c: len(list(c.execute(select(tables.node_tokens)))))
    await database.close()
    authority = Authority(settings.home / "cluster")
    authority.open()
    return {row.name for row in nodes.all()}, tokens, authority.fingerprint


async def test_a_restored_home_has_its_machines_and_their_ca_and_no_token(settings, tmp_path):
    await fill(settings)
    nodes = await with_nodes(settings, "a", "b")
    await nodes._database.close()
    names, tokens, fingerprint = await joined(settings)
    assert ({"a", "b"}, 1) == (names, tokens)
    backup.make(settings, tmp_path / "b.tar.gz", force=False)
    other = Settings(home=tmp_path / "other")
    backup.restore(other, tmp_path / "b.tar.gz", force=False)

    assert (names, 0, fingerprint) == await joined(other)
    assert 0o600 == (other.home / "cluster" / "ca.key").stat().st_mode & 0o777


async def test_a_machine_that_was_removed_stays_removed_and_one_that_joined_since_stays(
    settings, tmp_path
):
    await fill(settings)
    nodes = await with_nodes(settings, "a", "b")
    backup.make(settings, tmp_path / "b.tar.gz", force=False)
    await nodes.remove("a")
    await nodes.add_token("c" * 64, 60)
    await nodes.join("c" * 64, "c", "c" * 32)
    await nodes._database.close()
    backup.restore(settings, tmp_path / "b.tar.gz", force=True)

    assert {"b", "c"} == (await joined(settings))[0]


async def test_the_machines_of_another_cluster_are_replaced_with_its_ca(settings, tmp_path):
    await fill(settings)
    nodes = await with_nodes(settings, "a")
    await nodes._database.close()
    _, _, fingerprint = await joined(settings)
    backup.make(settings, tmp_path / "b.tar.gz", force=False)
    other = Settings(home=tmp_path / "other")
    await fill(other)
    nodes = await with_nodes(other, "d")
    await nodes._database.close()
    backup.restore(other, tmp_path / "b.tar.gz", force=True)

    assert ({"a"}, 0, fingerprint) == await joined(other)
