"""`Volume`: in a container that has it mounted, and on the user's machine by a server's API."""

import asyncio
import contextlib
import inspect
import io
import os

import pytest

import homeport as modal
from homeport.contract.manifest import VolumeMount
from homeport.sdk import context, exception
from homeport.sdk.objects.mounts import mounts
from homeport.sdk.objects.volume import FileEntryType
from tests.control.api.served import on_a_socket
from tests.control.plane import Plane


@contextlib.asynccontextmanager
async def outside(home, _directory):
    """Where a user's script runs."""
    async with Plane(home) as plane, on_a_socket(plane, home):
        yield modal.Volume.from_name("v", create_if_missing=True)


@contextlib.asynccontextmanager
async def inside(_home, directory):
    """A container that has the volume."""
    mount = VolumeMount(path=str(directory), name="v", key="main/main/vo-1")
    context.enter_container({}, volumes=(mount,))
    try:
        yield modal.Volume.from_name("v")
    finally:
        context._urls = None
        context._volumes = ()


@pytest.fixture(params=[outside, inside])
def place(request, home, tmp_path):
    directory = tmp_path / "mount"
    directory.mkdir()
    return request.param(home, directory)


def story(volume, tmp_path):
    """What a script does; it blocks."""
    local = tmp_path / "local"
    (local / "sub").mkdir(parents=True)
    (local / "sub/one").write_text("one")
    (local / "two").write_text("two")
    with volume.batch_upload() as batch:
        batch.put_directory(local, "/dir")
        batch.put_file(local / "two", "two.txt", mode=0o600)
        batch.put_file(io.BytesIO(b"three"), "/three.txt")
        with pytest.raises(ValueError, match="must refer to a file"):
            batch.put_file(local / "two", "x/")
    with pytest.raises(FileExistsError), volume.batch_upload() as batch:
        batch.put_file(io.BytesIO(b"other"), "/three.txt")
    with volume.batch_upload(force=True) as batch:
        batch.put_file(io.BytesIO(b"3"), "/three.txt")

    assert ["dir", "three.txt", "two.txt"] == [e.path for e in volume.listdir("/")]
    found = {e.path: e.type for e in volume.iterdir("dir")}
    assert FileEntryType.DIRECTORY == found["dir/sub"]
    assert FileEntryType.FILE == found["dir/sub/one"]
    assert b"3" == b"".join(volume.read_file("three.txt"))
    volume.copy_files(["two.txt"], "four.txt")
    volume.remove_file("dir", recursive=True)
    target = io.BytesIO()
    assert 3 == volume.read_file_into_fileobj("four.txt", target)
    assert b"two" == target.getvalue()
    for kind in (FileNotFoundError, exception.NotFoundError):
        with pytest.raises(kind):
            list(volume.read_file("none"))
        with pytest.raises(kind):
            volume.remove_file("none")
    with pytest.raises(exception.InvalidError, match=r"cannot have `\.\.`"):
        volume.listdir("../x")
    for write in (
        lambda v: v.remove_file("four.txt"),
        lambda v: v.copy_files(["four.txt"], "five"),
        lambda v: v.batch_upload(),
    ):
        with pytest.raises(exception.InvalidError, match="Read-only"):
            write(volume.read_only())


async def test_the_same_calls_work_in_both_places(place, tmp_path):
    async with place as volume:
        await asyncio.to_thread(story, volume, tmp_path)


async def test_each_kind_of_file_has_its_type(place, home, tmp_path):
    async with place as volume:
        await asyncio.to_thread(volume.hydrate)
        inside = tmp_path / "mount"
        folder = inside if not context.is_local() else next(home.rglob("vo-*")) / "files"
        (folder / "file").touch()
        (folder / "directory").mkdir()
        (folder / "symlink").symlink_to("file")
        os.mkfifo(folder / "fifo")
        entries = await asyncio.to_thread(volume.listdir, "/")

    assert {kind.name.lower() for kind in list(FileEntryType)[1:5]} == {e.path for e in entries}
    assert all(entry.path == entry.type.name.lower() for entry in entries)


async def test_each_call_has_an_aio(place):
    async with place as volume:
        async with volume.batch_upload() as batch:
            batch.put_file(io.BytesIO(b"x"), "a")

        assert ["a"] == [entry.path for entry in await volume.listdir.aio("/")]
        assert [b"x"] == [chunk async for chunk in volume.read_file.aio("a")]
        await volume.remove_file.aio("a")
        assert [] == [entry async for entry in volume.iterdir.aio("/")]


async def test_commit_and_reload_are_for_containers(home, tmp_path):
    async with inside(home, tmp_path) as volume:
        assert volume.commit() is None
        assert volume.reload() is None
        assert "vo-1" == volume.object_id
        with pytest.raises(exception.ExecutionError, match="has not mounted the volume `other`"):
            modal.Volume.from_name("other").listdir("/")
        with pytest.raises(exception.ExecutionError, match="may not speak to the server"):
            modal.Volume.objects.create("x")
    for name in ("commit", "reload"):
        with pytest.raises(RuntimeError, match="for containers"):
            getattr(volume, name)()


async def test_volumes_are_managed_by_the_server(home):
    def manage():
        modal.Volume.objects.create("one")
        with pytest.raises(exception.AlreadyExistsError):
            modal.Volume.objects.create("one")
        modal.Volume.objects.create("one", allow_existing=True)
        modal.Volume.rename("one", "two")
        volume = modal.Volume.from_name("two").hydrate()
        assert volume.object_id.startswith("vo-")
        assert ["two"] == [v.name for v in modal.Volume.objects.list()]
        assert "two" == volume.info().name
        with modal.Volume.ephemeral() as short:
            with short.batch_upload() as batch:
                batch.put_file(io.BytesIO(b"x"), "a")
            assert ["a"] == [entry.path for entry in short.listdir("/")]
        with pytest.raises(exception.NotFoundError):
            short.listdir("/")
        modal.Volume.delete("two")
        modal.Volume.objects.delete("two", allow_missing=True)
        with pytest.raises(exception.NotFoundError):
            modal.Volume.from_name("two").listdir("/")

    async with Plane(home) as plane, on_a_socket(plane, home):
        await asyncio.to_thread(manage)


def test_without_a_server_the_error_says_how_to_start_one(home):
    with pytest.raises(exception.ConnectionError, match="homeport up"):
        modal.Volume.from_name("v").listdir("/")


def test_mounts_are_described_for_the_manifest():
    volume = modal.Volume.from_name("v", create_if_missing=True)
    part = volume.with_mount_options(read_only=True, sub_path="/a/b")
    first, second = mounts({"/data/": volume, "/part": part})

    assert ("/data", "v", False, True, "") == (
        first.path,
        first.name,
        first.read_only,
        first.create,
        first.sub_path,
    )
    assert ("/part", True, "a/b") == (second.path, second.read_only, second.sub_path)
    assert "test_volume.py" in first.where
    with pytest.raises(exception.InvalidError, match="sub_path"):
        volume.with_mount_options(sub_path="../x")
    with pytest.raises(exception.InvalidError, match="has no name"):
        mounts({"/x": modal.Volume()})


@pytest.mark.parametrize("path", ["/proc/x", "/sys", "/dev/shm", "/usr", "/etc", "/root"])
def test_nothing_that_a_program_needs_is_hidden(path):
    with pytest.raises(exception.InvalidError, match="cannot be mounted"):
        mounts({path: modal.Volume.from_name("v")})


@pytest.mark.parametrize("name", ["", "a b", "..", "x/y", "vo-" + "a" * 22, None])
def test_a_wrong_name_is_refused_at_once(name):
    with pytest.raises(exception.InvalidError, match="Invalid Volume name"):
        modal.Volume.from_name(name)


@pytest.mark.parametrize(
    "declare",
    [
        lambda: modal.CloudBucketMount("bucket", secret=None),
        lambda: modal.NetworkFileSystem.from_name("n", create_if_missing=True),
    ],
)
def test_other_file_systems_say_what_to_use_at_their_declaration(declare):
    with pytest.raises(exception.UnimplementedError, match="Volume"):
        declare()


def test_signatures_are_seen():
    assert ["path", "recursive"] == [
        name for name in inspect.signature(modal.Volume.listdir).parameters if name != "self"
    ]
