"""Files are stored by the hash of their content."""

import hashlib
import os

import pytest

from homeport.contract import validate
from homeport.contract.errors import BadRequest, NotFound
from homeport.contract.manifest import SourceFile
from homeport.state.blobs import Blobs
from tests import trees


async def chunks(*parts):
    for part in parts:
        yield part


def source(path, content, **kwargs):
    digest = hashlib.sha256(content).hexdigest()
    return SourceFile(path=path, sha256=digest, size_bytes=len(content), **kwargs)


async def test_a_tree_is_laid_out_from_what_was_uploaded(tmp_path):
    blobs = Blobs(tmp_path / "blobs")
    main, data = source("pkg/main.py", b"x = 1\n"), source("run.sh", b"#!/bin/sh\n", mode=0o755)
    await blobs.put(main.sha256, chunks(b"x = ", b"1\n"))
    await blobs.put(data.sha256, chunks(b"#!/bin/sh\n"))
    await blobs.lay_out((main, data), tmp_path / "tree")
    (tmp_path / "tree/pkg/main.py").write_text("changed")

    assert blobs.missing([main.sha256, data.sha256]) == []
    assert (tmp_path / "tree/run.sh").stat().st_mode & 0o777 == 0o755
    await blobs.lay_out((main,), tmp_path / "second")
    assert (tmp_path / "second/pkg/main.py").read_text() == "x = 1\n"


async def test_new_files_and_their_folders_are_synced_once(tmp_path, monkeypatch):
    blobs, synced = Blobs(tmp_path / "blobs"), []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.fstat(fd).st_ino))
    file = source("a", b"x")
    await blobs.put(file.sha256, chunks(b"x"))
    synced.clear()
    await blobs.sync([file])
    stored = list((tmp_path / "blobs").rglob(f"*{file.sha256[2:]}"))
    expected = {stored[0].stat().st_ino, stored[0].parent.stat().st_ino}
    first = set(synced)
    await blobs.sync([file])

    assert expected == first
    assert 2 == len(synced)


async def test_files_that_are_not_below_root_are_laid_out_beside_the_tree(tmp_path):
    blobs = Blobs(tmp_path / "blobs")
    style = source("/assets/css/a.css", b"p {}")
    await blobs.put(style.sha256, chunks(b"p {}"))
    await blobs.lay_out((style,), tmp_path / "tree")

    assert [] == list((tmp_path / "tree").iterdir())
    assert "p {}" == (tmp_path / "tree.outside/assets/css/a.css").read_text()


async def test_content_under_a_wrong_hash_is_not_kept(tmp_path):
    blobs = Blobs(tmp_path)
    with pytest.raises(BadRequest):
        await blobs.put("0" * 64, chunks(b"something"))

    assert blobs.missing(["0" * 64]) == ["0" * 64]
    assert {} == trees.files(tmp_path)


@pytest.mark.parametrize("path", ["../x", "/../x", "a/../../x", ""])
async def test_a_path_cannot_leave_the_tree(tmp_path, path):
    blobs = Blobs(tmp_path / "blobs")
    file = source(path, b"x")
    await blobs.put(file.sha256, chunks(b"x"))
    with pytest.raises(BadRequest):
        await blobs.lay_out((file,), tmp_path / "tree")

    assert [p.name for p in tmp_path.iterdir()] == ["blobs"]


async def test_a_missing_blob_leaves_no_half_tree(tmp_path):
    blobs = Blobs(tmp_path / "blobs")
    with pytest.raises(NotFound, match=r"main\.py"):
        await blobs.lay_out((source("main.py", b"x"),), tmp_path / "tree")

    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize("sha256", ["../../etc", "Z" * 64, "", "a" * 63])
def test_only_a_hash_is_a_name(tmp_path, sha256):
    with pytest.raises(BadRequest):
        Blobs(tmp_path).missing([sha256])


async def test_a_workspace_has_what_it_has_uploaded_itself(tmp_path):
    blobs = Blobs(tmp_path / "blobs")
    file = source("main.py", b"x = 1")
    await blobs.put(file.sha256, chunks(b"x = 1"), "acme")

    assert [] == blobs.missing([file.sha256], "acme")
    assert [file.sha256] == blobs.missing([file.sha256]) == blobs.missing([file.sha256], "globex")
    with pytest.raises(NotFound, match="was not uploaded"):
        blobs.check([file], "globex")
    await blobs.put(file.sha256, chunks(b"x = 1"), "globex")
    blobs.check([file], "globex")
    await blobs.sweep([file.sha256], -1.0)
    assert [] == blobs.missing([file.sha256], "acme")
    await blobs.sweep([], -1.0)
    assert {} == trees.files(tmp_path)


async def test_content_that_the_disk_has_damaged_is_not_laid_out_and_can_be_sent_again(tmp_path):
    """As after a power cut: the file has its name, and no content."""
    blobs, file = Blobs(tmp_path / "blobs"), source("a", b"content")
    await blobs.put(file.sha256, chunks(b"content"))
    (tmp_path / "blobs" / file.sha256[:2] / file.sha256).write_bytes(b"")
    with pytest.raises(NotFound, match="is damaged on the server"):
        await blobs.lay_out((file,), tmp_path / "tree")

    assert not (tmp_path / "tree").exists()
    assert [file.sha256] == blobs.missing([file.sha256])
    await blobs.put(file.sha256, chunks(b"content"))
    await blobs.lay_out((file,), tmp_path / "tree")
    assert "content" == (tmp_path / "tree/a").read_text()


async def test_an_upload_that_is_too_long_ends_before_it_fills_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(validate, "MAX_FILE_BYTES", 10)
    sent = []

    async def endless():
        while True:
            sent.append(b"12345")
            yield sent[-1]

    with pytest.raises(BadRequest, match="more than 10 bytes"):
        await Blobs(tmp_path / "blobs").put("0" * 64, endless())

    assert 3 == len(sent)
    assert {} == trees.files(tmp_path / "blobs")


async def test_a_tree_is_for_the_server_alone_whatever_its_umask(tmp_path):
    blobs, file, before = Blobs(tmp_path / "blobs"), source("a", b"x"), os.umask(0)
    try:
        await blobs.put(file.sha256, chunks(b"x"))
        await blobs.lay_out((file,), tmp_path / "tree")
    finally:
        os.umask(before)

    assert 0o700 == (tmp_path / "tree").stat().st_mode & 0o777
