"""`homeport volume …` as a user types it, with the API that a server has."""

import contextlib
import functools
import json
import os

import pytest

from homeport.cli.volume import _local_files
from homeport.contract.errors import BadRequest
from homeport.contract.manifest import VolumeMount
from tests.control.plane import function, manifest


@contextlib.asynccontextmanager
async def volumes(typed):
    """Yield how to run `homeport volume …`, and the control plane that it talks to."""
    async with typed() as user:
        yield functools.partial(user.run, "volume"), user.plane


async def test_volume_commands_put_list_and_get_files(typed, tmp_path):
    local, out = tmp_path / "local", tmp_path / "out"
    (local / "sub").mkdir(parents=True)
    (local / "sub/a").write_text("a")
    (local / "sub/a").chmod(0o750)
    (local / "b").write_bytes(big := os.urandom(3_000_000))
    async with volumes(typed) as (run, plane):
        created = json.loads((await run("create", "data", "--json")).stdout)
        await run("put", "data", local, "/in")
        again = await run("put", "data", local / "b", "/in/b", code=1)
        await run("put", "data", local / "b", "/in/", "--force")
        await run("cp", "data", "/in/b", "/copy")
        listed = json.loads((await run("ls", "data", "-r", "--json")).stdout)
        (told,) = json.loads((await run("list", "--json")).stdout)
        table = (await run("list")).stdout
        shown_files = (await run("ls", "data", "in")).stdout
        await run("get", "data", "/in", out)
        kept = await run("get", "data", "/in/sub/a", out / "sub/a", code=1)
        shown = await run("get", "data", "in/sub/a", "-")
        missing = await run("get", "data", "none", "-", code=1)
        await run("rm", "data", "/in", code=1)
        await run("rm", "data", "/in", "-r")
        left = json.loads((await run("ls", "data", "--json")).stdout)
        mode = (plane.volumes.directory(plane.volumes.find("data")) / "files/copy").stat().st_mode

    assert ("data", created["id"], 3) == (told["name"], told["id"], told["files"])
    assert told["size_bytes"] > 6_000_000
    assert "MiB" in table
    rows = {row.split()[0]: row.split()[1:3] for row in shown_files.splitlines() if "in/" in row}
    assert ["file", "2.9"] == rows["in/b"]  # MiB
    assert "directory" == rows["in/sub/"][0]
    assert "B" not in rows["in/sub/"][1]  # a directory has no size
    assert "--force" in again.stderr
    assert ["copy", "in", "in/b", "in/sub", "in/sub/a"] == [entry["path"] for entry in listed]
    assert big == (out / "b").read_bytes()
    assert "a" == shown.stdout == (out / "sub/a").read_text()
    assert "--force" in kept.stderr
    assert "there is no such file" in missing.stderr
    assert ["copy"] == [entry["path"] for entry in left]
    assert 0o644 == mode & 0o777


async def test_a_path_that_is_spelled_in_another_way_is_the_same_file(typed, tmp_path):
    (tmp_path / "a").write_text("a")
    async with volumes(typed) as (run, _):
        await run("create", "data")
        await run("put", "data", tmp_path / "a", "/in/a")
        for number, path in enumerate(("./in/a", "in//a", "/in/./a", "in", "./in/")):
            await run("get", "data", path, out := tmp_path / f"out{number}")

            assert "a" == (out / "a" if out.is_dir() else out).read_text()


async def test_a_place_where_no_file_can_be_is_an_error_that_names_it(typed, tmp_path):
    (tmp_path / "tree/sub").mkdir(parents=True)
    (tmp_path / "tree/sub/a").write_text("a")
    (tmp_path / "file").touch()
    (odd := tmp_path / "tree/odd\udcff").touch()
    (tmp_path / "links").mkdir()
    (tmp_path / "links/long").symlink_to("n" * 300)
    places = (tmp_path / "file", tmp_path / "file/x", tmp_path / ("n" * 300))
    async with volumes(typed) as (run, _):
        await run("create", "data")
        unnamed = await run("put", "data", tmp_path / "tree", code=1)
        unread = await run("put", "data", tmp_path / "links", code=1)
        odd.unlink()
        await run("put", "data", tmp_path / "tree", "/in")
        told = [(await run("get", "data", "in", place, code=1)).stderr for place in places]

    assert "is not UTF-8 text" in unnamed.stderr
    assert "links/long` cannot be read: File name too long" in unread.stderr
    assert ["cannot be written"] * 3 == [text[text.index("cannot") :][:17] for text in told]


async def test_a_volume_is_renamed_and_deleted_when_that_is_meant(typed):
    async with volumes(typed) as (run, plane):
        await run("create", "data")
        taken = await run("create", "data", code=1)
        await run("rename", "data", "kept")
        mount = VolumeMount(path="/data", name="kept")
        await plane.deploy(manifest(function("f", volumes=(mount,))))
        used = await run("delete", "kept", "--yes", code=1)
        unasked = await run("delete", "kept", code=1)
        gone = await run("delete", "none", "--yes", code=1)
        await run("delete", "none", "--yes", "--allow-missing")

        assert ["kept"] == [row.name for row in plane.volumes.list()]
    assert "exists" in taken.stderr
    assert "is used by `shop`" in used.stderr
    assert "homeport app stop shop" in used.stderr
    assert "--yes" in unasked.stderr
    assert "there is no volume `none`" in gone.stderr


async def test_a_hostile_name_is_not_obeyed_by_the_terminal(typed):
    async with volumes(typed) as (run, plane):
        await run("create", "data")
        files = plane.volumes.directory(plane.volumes.find("data")) / "files"
        (files / "\x1b[31mred").touch()
        (files / "evil").symlink_to("/etc/passwd")
        shown = (await run("ls", "data")).stdout
        refused = await run("get", "data", "evil", "-", code=1)

    assert "\x1b" not in shown
    assert "red" in shown
    assert "leads out of the volume" in refused.stderr
    assert "" == refused.stdout


def test_a_directory_that_cannot_be_read_is_refused_and_not_left_out(tmp_path, monkeypatch):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "file").touch()
    scandir = os.scandir

    def refused(path):
        if str(path).endswith("inner"):  # root may read all
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    assert [(tmp_path / "inner" / "file", "/inner/file")] == _local_files(tmp_path, "/")
    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(BadRequest, match="inner` cannot be read: Permission denied"):
        _local_files(tmp_path, "/")
