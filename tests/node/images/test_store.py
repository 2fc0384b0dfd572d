"""Records of a home's layers, when several builds end at once."""

import asyncio
import errno
import os

import pytest

from homeport import durable
from homeport.contract.errors import StorageError
from homeport.node.images import store
from homeport.node.images.store import Store


async def test_builds_that_end_at_once_lose_no_note(tmp_path):
    layers = Store(tmp_path)
    directory = tmp_path / "layer"
    directory.mkdir()
    await store.finish(directory, steps=["debian_slim"], parent="")

    images = [f"image-{number}" for number in range(20)]
    fields = {f"field_{number}": str(number) for number in range(20)}
    await asyncio.gather(
        *(layers.used(directory, image) for image in images),
        *(layers.note(directory, **{name: value}) for name, value in fields.items()),
    )

    record = store.read(directory)
    assert record["images"] == sorted(images)
    assert record.items() >= fields.items()
    assert os.listdir(directory) == [store.RECORD]


async def test_a_note_keeps_the_date_of_the_last_use(tmp_path):
    directory = tmp_path / "layer"
    directory.mkdir()
    await store.finish(directory, steps=["debian_slim"], parent="")
    os.utime(directory / store.RECORD, (1_000_000, 1_000_000))

    await Store(tmp_path).note(directory, runner="runner-3.11")

    assert store.read(directory)["runner"] == "runner-3.11"
    assert store.used_at(directory) == 1_000_000


async def test_a_note_makes_no_directory_complete(tmp_path):
    (tmp_path / "layer").mkdir()
    await Store(tmp_path).note(tmp_path / "layer", runner="runner-3.11")
    assert not Store(tmp_path).has("layer")


async def test_a_directory_is_complete_once_its_files_are_on_the_disk(tmp_path, monkeypatch):
    """Else a power cut could leave its record and take its files."""
    layers = store.Store(tmp_path / "environments")

    def cut(_folder):
        raise OSError(errno.EIO, "Input/output error")

    async def build(_say):
        await store.finish(layers.root / "layer", steps=[], parent="")

    monkeypatch.setattr(durable, "sync_all", cut)
    with pytest.raises(StorageError, match="Input/output error"):
        await layers.once("layer", build, lambda _text: None)
    assert not layers.has("layer")
    monkeypatch.undo()
    await layers.once("layer", build, lambda _text: None)

    assert layers.has("layer")


async def test_a_layer_keeps_what_its_build_told_until_it_is_pruned(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "LOG_LINE", 20)
    layers = Store(tmp_path / "environments")

    async def build(say):
        for number in range(store.LOG_LINES + 2):
            say(f"line {number}")
        say("\r12 MiB fetched")
        say("x" * 100)
        await store.finish(layers.root / "layer", steps=["pip_install flask"], parent="")

    async def fail(say):
        say("no fuel")
        raise ValueError

    await layers.once("layer", build, lambda _text: None)
    with pytest.raises(ValueError):
        await layers.once("broken", fail, lambda _text: None)
    lines = (layers.log("layer") or "").splitlines()

    assert (store.LOG_LINES, "line 3", "x" * 20) == (len(lines), lines[0], lines[-1])
    assert layers.log("broken") is layers.log("../environments/layer/record") is None
    await layers.prune(())
    assert layers.log("layer") is None
    assert [] == list((tmp_path / "build-logs").iterdir())
