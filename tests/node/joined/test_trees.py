"""Source trees on a node, from a control plane that may be wrong."""

import dataclasses
import os
import time
from pathlib import Path

import pytest

from homeport import durable
from homeport.contract.errors import Failure, StorageError
from homeport.link.calls import Entry, Piece
from homeport.link.offered import Offered
from homeport.node.joined import trees as module
from homeport.node.joined.trees import Trees
from tests.trees import files as tree_files


class Control:
    """What the control plane answers: the truth, unless a test changes it."""

    def __init__(self, sources) -> None:
        self.offered = Offered(sources)
        self.asked: list[str] = []
        self.entries = lambda entries: entries
        self.piece = lambda piece: piece

    async def ask(self, name: str, given):
        self.asked.append(name)
        if name == "tree":
            return self.entries(self.offered.entries(**given))
        return self.piece(self.offered.piece(**given))


@pytest.fixture
def control(tmp_path):
    for name in ("rv-1", "rv-2", "rv-1.outside", "rv-1.build"):
        (tmp_path / "control" / name / "package").mkdir(parents=True)
        (tmp_path / "control" / name / "package" / "big.bin").write_bytes(b"x" * 300_000)
        (tmp_path / "control" / name / "script.py").write_text(f"name = {name!r}")
    (tmp_path / "control" / "rv-1" / "script.py").chmod(0o755)
    made = Control(tmp_path / "control")
    made.offered.offer("rv-1")
    made.offered.offer("rv-2")
    return made


@pytest.fixture
def trees(control, tmp_path):
    made = Trees(tmp_path / "node" / "revisions", tmp_path / "node" / "files", control.ask)
    made.open()
    return made


async def test_a_tree_is_fetched_once_with_all_its_files_and_modes(trees, control):
    source = trees.place("rv-1")
    await trees.fetched(source)
    asked = len(control.asked)
    await trees.fetched(source)

    files = {
        str(path.relative_to(trees.directory)): content
        for path, content in tree_files(trees.directory).items()
    }
    assert {
        "rv-1/script.py": b"name = 'rv-1'",
        "rv-1/package/big.bin": b"x" * 300_000,
        "rv-1.outside/script.py": b"name = 'rv-1.outside'",
        "rv-1.outside/package/big.bin": b"x" * 300_000,
    } == files
    assert 0o755 == (trees.directory / "rv-1" / "script.py").stat().st_mode & 0o777
    assert asked == len(control.asked)


async def test_a_tree_of_before_the_machine_has_started_is_fetched_again(
    trees, control, tmp_path, monkeypatch
):
    """A power cut may have emptied its files; after another start of the agent alone, it is as it was."""
    script = Path(trees.place("rv-1")) / "script.py"
    await trees.fetched(trees.place("rv-1"))
    trees.open()
    assert "name = 'rv-1'" == script.read_text()
    script.write_bytes(b"")
    monkeypatch.setattr(durable, "boot", lambda: "another")
    trees.open()
    await trees.fetched(trees.place("rv-1"))
    trees.open()

    assert "name = 'rv-1'" == script.read_text()


async def test_a_file_that_an_earlier_tree_had_is_not_fetched_again(trees, control):
    await trees.fetched(trees.place("rv-1"))
    control.asked.clear()
    await trees.fetched(trees.place("rv-2"))

    assert ["piece", "tree", "tree"] == sorted(control.asked)


async def test_a_container_that_writes_to_its_files_changes_no_other_tree(trees):
    await trees.fetched(trees.place("rv-1"))
    (trees.directory / "rv-1" / "package" / "big.bin").write_bytes(b"changed")
    await trees.fetched(trees.place("rv-2"))

    assert b"x" * 300_000 == (trees.directory / "rv-2" / "package" / "big.bin").read_bytes()


async def test_a_damaged_cache_is_fetched_again(trees, tmp_path):
    await trees.fetched(trees.place("rv-1"))
    for path in (tmp_path / "node" / "files").iterdir():
        path.write_bytes(b"damaged")
    await trees.fetched(trees.place("rv-2"))

    assert "name = 'rv-2'" == (trees.directory / "rv-2" / "script.py").read_text()


async def test_a_tree_that_only_a_build_reads_is_there_for_the_build_and_then_deleted(trees):
    source = trees.place("rv-1")
    await trees.fetched_for_build(source)
    assert (trees.directory / "rv-1.build" / "script.py").exists()
    trees.end_build(source)

    assert not (trees.directory / "rv-1.build").exists()


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x", "", ".", "a\0b"])
async def test_a_path_that_leads_out_of_the_tree_is_refused(trees, control, tmp_path, path):
    control.entries = lambda entries: (dataclasses.replace(entries[0], path=path),)
    with pytest.raises(StorageError, match="cannot be a file of a tree"):
        await trees.fetched(trees.place("rv-1"))

    assert [] == [each.name for each in trees.directory.iterdir() if each.name == "rv-1"]
    assert not (tmp_path / "node" / "x").exists()


@pytest.mark.parametrize(
    ("piece", "why"),
    [
        (lambda piece: Piece(data=piece.data[:-1] + b"y"), "damaged"),
        (lambda _piece: Piece(data=b""), "damaged"),
        (lambda piece: Piece(data=piece.data * 50), "damaged"),
    ],
)
async def test_a_file_that_is_not_what_its_hash_says_leaves_no_tree(trees, control, piece, why):
    control.piece = piece
    with pytest.raises(Failure, match=why):
        await trees.fetched(trees.place("rv-1"))

    left = [
        str(path)
        for each in (trees.directory, trees.directory.parent / "files")
        for path in each.iterdir()
        if "outside" not in path.name
    ]
    assert [] == left


@pytest.mark.parametrize("sha256", ["", "../" * 21 + "x", "z" * 63, "/" * 64])
async def test_a_hash_that_is_none_is_refused(trees, control, sha256):
    control.entries = lambda _entries: (Entry(path="a", sha256=sha256, size_bytes=1),)
    with pytest.raises(StorageError, match="without a hash"):
        await trees.fetched(trees.place("rv-1"))


async def test_a_tree_that_is_too_large_is_refused_before_it_is_fetched(
    trees, control, monkeypatch
):
    monkeypatch.setattr(module, "MOST_TREE_BYTES", 1000)
    with pytest.raises(StorageError, match="too large"):
        await trees.fetched(trees.place("rv-1"))

    assert "piece" not in control.asked


@pytest.mark.parametrize("name", ["..", "a/b", ".x", "/"])
def test_a_name_that_cannot_be_a_trees_is_refused(trees, name):
    with pytest.raises(StorageError):
        trees.place(name)


async def test_trees_that_no_container_had_for_long_and_the_oldest_cached_files_are_deleted(
    trees, monkeypatch, tmp_path
):
    monkeypatch.setattr(module, "CACHE_BYTES", 300_010)
    for name in ("rv-1", "rv-2"):
        await trees.fetched(trees.place(name))
    trees.sweep({trees.place("rv-1")}, time.time() + module.UNUSED_S + 60)

    assert {"rv-1", "rv-1.outside"} == {path.name for path in trees.directory.iterdir()}
    sizes = [path.stat().st_size for path in (tmp_path / "node" / "files").iterdir()]
    assert 0 < sum(sizes) <= 300_010


async def test_a_tree_that_begins_to_be_used_again_is_left_by_a_sweep(trees):
    await trees.fetched(trees.place("rv-1"))
    tree = trees.directory / "rv-1"
    os.utime(tree, (0, 0))
    await trees.fetched(trees.place("rv-1"))
    trees.sweep(set(), time.time())

    assert tree.exists()


async def test_a_tree_whose_deletion_is_cut_off_is_fetched_again(trees, monkeypatch):
    """As by a kill: then only the name says what is complete."""
    await trees.fetched(trees.place("rv-1"))
    files = tree_files(trees.directory / "rv-1")
    monkeypatch.setattr(
        module.removing, "discard", lambda path: (Path(path) / "script.py").unlink()
    )
    trees.sweep(set(), time.time() + module.UNUSED_S + 60)
    monkeypatch.undo()
    later = Trees(trees.directory, trees._cache, trees._ask)
    later.open()
    await later.fetched(later.place("rv-1"))

    assert files.keys() == tree_files(trees.directory / "rv-1").keys()
    assert [] == list(trees.directory.glob(".*"))
