"""Volumes in a real database and on a real disk: their names, their directories, and their removal."""

import asyncio
import os

import pytest

from homeport.contract.errors import AlreadyExists, BadRequest, NotFound, StorageError
from homeport.contract.manifest import FunctionSpec, Manifest, VolumeMount
from homeport.state.scope import Scope
from homeport.state.volumes import Volumes, _remove_as_containers, _root_in_containers, failing


@pytest.fixture
def volumes(database, tmp_path):
    return Volumes(database, tmp_path / "volumes")


def app(*mounts: VolumeMount) -> Manifest:
    spec = FunctionSpec(name="f", module="m", qualname="f", volumes=mounts)
    return Manifest(app_name="shop", functions=(spec,))


async def test_a_volume_has_a_directory_by_its_id(volumes, tmp_path):
    row = await volumes.create("models")

    directory = tmp_path / "volumes/main/main" / row.id
    assert f"main/main/{row.id}" == volumes.key(row)
    assert 0o700 == directory.stat().st_mode & 0o777
    assert 0o755 == (directory / "files").stat().st_mode & 0o777
    assert [row] == volumes.list()
    assert row == volumes.find("models") == volumes.find(row.id)


async def test_a_later_server_finds_them(volumes, database, tmp_path):
    row = await volumes.create("models")
    later = Volumes(database, tmp_path / "volumes")
    await later.load()

    assert [row] == later.list()


async def test_each_environment_has_its_own_names(volumes, database, tmp_path):
    here = await volumes.create("models")
    there = Volumes(database, tmp_path / "volumes", scope=Scope(environment="test"))
    row = await there.create("models")
    await there.load()

    assert here.id != row.id
    assert [row] == there.list()
    assert (tmp_path / "volumes/main/test" / row.id).is_dir()


async def test_a_name_belongs_to_one_volume(volumes):
    row = await volumes.create("models")
    with pytest.raises(AlreadyExists):
        await volumes.create("models")

    assert row == await volumes.create("models", allow_existing=True)


async def test_of_two_that_are_created_at_once_one_is_refused(volumes, tmp_path):
    made = await asyncio.gather(
        volumes.create("models"), volumes.create("models"), return_exceptions=True
    )

    assert [AlreadyExists] == [type(each) for each in made if isinstance(each, Exception)]
    assert [volumes.find("models").id] == os.listdir(tmp_path / "volumes/main/main")


async def test_a_volume_that_is_deleted_while_it_gets_another_name_stays_deleted(volumes):
    await volumes.create("models")
    _, renamed = await asyncio.gather(
        volumes.delete("models"), volumes.rename("models", "weights"), return_exceptions=True
    )

    assert isinstance(renamed, NotFound)
    assert [] == volumes.list()


@pytest.mark.parametrize("name", ["", "a/b", "..", "a b", "x" * 65, "vo-" + "0" * 22])
async def test_a_name_that_cannot_be_is_refused(volumes, name):
    with pytest.raises(BadRequest, match="Invalid Volume name"):
        await volumes.create(name)


async def test_another_name_is_the_same_volume(volumes):
    row = await volumes.create("models")
    await volumes.create("other")
    with pytest.raises(AlreadyExists):
        await volumes.rename("models", "other")
    await volumes.rename("models", "weights")

    assert row.id == volumes.find("weights").id
    with pytest.raises(NotFound, match="homeport volume create models"):
        try:
            volumes.find("models")
        except NotFound as failure:
            raise NotFound(failure.hint) from None


async def test_a_deleted_volume_is_gone_with_its_files(volumes, tmp_path):
    row = await volumes.create("models")
    (tmp_path / "volumes" / volumes.key(row) / "files/x").write_text("x")
    await volumes.delete("models")

    assert [] == volumes.list()
    assert [] == os.listdir(tmp_path / "volumes/main/main")


async def test_unfinished_volumes_and_uploads_go_at_the_next_start(volumes, database, tmp_path):
    kept = await volumes.create("models")
    ephemeral = await volumes.create(None)
    root = tmp_path / "volumes/main/main"
    (root / kept.id / "staging/half").write_text("half")
    (root / "vo-1.gone/files").mkdir(parents=True)
    (root / "somebody's").mkdir()
    later = Volumes(database, tmp_path / "volumes")
    await later.load()

    assert ephemeral.id not in os.listdir(root)
    assert {kept.id, "somebody's"} == set(os.listdir(root))
    assert [] == os.listdir(root / kept.id / "staging")


async def test_a_deploy_fixes_what_a_name_means(volumes):
    with pytest.raises(NotFound, match="there is no volume `models`"):
        await volumes.resolve(app(VolumeMount(path="/data", name="models")))
    wanted = app(VolumeMount(path="/data", name="models", create=True, sub_path="a/b"))
    manifest = await volumes.resolve(wanted)

    row = volumes.find("models")
    assert volumes.key(row) == manifest.functions[0].volumes[0].key
    assert manifest == await volumes.resolve(wanted)
    volumes.check(manifest.functions[0])
    assert (volumes.directory(row) / "files/a/b").is_dir()
    await volumes.delete("models")
    with pytest.raises(NotFound, match="was deleted"):
        volumes.check(manifest.functions[0])


async def test_a_sub_path_that_a_container_has_made_a_link_is_refused(volumes, tmp_path):
    manifest = await volumes.resolve(
        app(VolumeMount(path="/data", name="models", create=True, sub_path="a"))
    )
    (volumes.directory(volumes.find("models")) / "files/a").symlink_to(tmp_path)

    with pytest.raises(BadRequest, match="leads out of the volume"):
        volumes.check(manifest.functions[0])


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give files away")
async def test_the_files_of_a_volume_belong_to_the_user_that_is_root_in_containers(
    database, tmp_path
):
    volumes = Volumes(database, tmp_path / "volumes", owner=(5000, 6000))
    files = volumes.tree(row := await volumes.create("models"))
    writing = files.begin("a/b")
    writing.finish()
    writing.abort()

    root = volumes.directory(row) / "files"
    owners = {(p.stat().st_uid, p.stat().st_gid) for p in (root, root / "a", root / "a/b")}
    assert {(5000, 6000)} == owners
    assert 0 == root.parent.stat().st_uid


@pytest.mark.skipif(os.getuid() != 0, reason="only root may give files away")
def test_a_directory_that_only_containers_may_remove_is_removed_as_they_would(tmp_path):
    (inner := tmp_path / "a/b").mkdir(parents=True)
    (inner / "file").touch()
    os.chown(inner, *_root_in_containers() or (0, 0))

    _remove_as_containers(str(tmp_path / "a"))
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (FileNotFoundError(2, "x"), NotFound),
        (FileExistsError(17, "x"), AlreadyExists),
        (OSError(28, "No space left on device"), StorageError),
        (PermissionError(1, "it leads out of the volume"), BadRequest),
        (ValueError("no path"), BadRequest),
    ],
)
def test_an_error_of_the_disk_is_a_failure(error, kind):
    with pytest.raises(kind), failing("`a`"):
        raise error
