"""What a node remembers about the modules of a function, and what it does not trust."""

import pytest

from homeport.node.zygotes import learned
from homeport.node.zygotes.learned import Learned


@pytest.fixture
def path(tmp_path):
    return Learned.place(tmp_path / "learned", "im-1", "app", "f")


def test_a_later_server_knows_the_modules_in_their_order_without_those_that_all_containers_have(
    path,
):
    record = Learned.of(path)
    record.add(("fastapi", "b", "a"))
    record.add(("a", "c"))
    record.spoil("rv-1", ("b",), "it differs")
    later = Learned.of(path)

    assert ("b", "a", "c") == later.wanted("rv-2")
    assert ("a", "c") == later.wanted("rv-1")
    assert 0o700 == path.parent.stat().st_mode & 0o777


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"modules": 3, "unlike": {}, "again": {}}', "\0"]
)
def test_a_record_that_cannot_be_read_is_an_empty_one(path, text):
    path.parent.mkdir()
    path.write_text(text)
    record = Learned.of(path)
    record.add(("a",))

    assert ("a",) == Learned.of(path).wanted("rv-1")


def test_a_disk_that_takes_no_record_stops_nobody(tmp_path):
    (tmp_path / "file").touch()
    record = Learned.of(tmp_path / "file" / "record.json")
    record.add(("a",))

    assert ("a",) == record.wanted("rv-1")


def test_a_function_cannot_fill_the_disk_with_the_names_of_modules(path, monkeypatch):
    monkeypatch.setattr(learned, "MAX_MODULES", 3)
    record = Learned.of(path)
    record.add(("a", "b"))
    record.add(("c", "d"))
    record.add(("e",))

    assert ("a", "b", "e") == record.wanted("rv-1")


def test_a_container_cannot_fill_the_disk_with_modules_that_differ(path, monkeypatch):
    monkeypatch.setattr(learned, "MAX_MODULES", 5)
    record = Learned.of(path)
    record.add(("a", "b"))
    record.spoil("rv-1", ("a",), "it differs")
    before = record.wanted("rv-1")
    for number in range(100):
        record.spoil("rv-1", (f"{number}", f"{number}.x"), "it differs" * 10_000)

    assert ("b",) == before
    assert () == record.wanted("rv-1")
    assert 6 == len(Learned.of(path).unlike["rv-1"])
    assert path.stat().st_size < 6 * (learned.MAX_REASON + 100)
    assert "it differs (`a`)" == record.objection("rv-1", frozenset({"a"}))


def test_a_module_that_differs_is_left_out_with_its_parts_and_nothing_that_has_it_is_forked(path):
    record = Learned.of(path)
    record.add(("torch", "torch.nn", "torchvision", "numpy"))
    record.spoil("rv-1", ("torch",), "it reads the clock")

    assert ("torchvision", "numpy") == record.wanted("rv-1")
    assert ("torch",) == record.avoid("rv-1")
    assert "it reads the clock (`torch`)" == record.objection("rv-1", frozenset({"torch"}))
    assert "" == record.objection("rv-1", frozenset({"numpy"}))
    assert "" == record.objection("rv-2", frozenset({"torch"}))


def test_a_revision_whose_starts_were_repeated_too_often_preloads_nothing(path):
    record = Learned.of(path)
    record.add(("a", "b"))
    for _ in range(learned.MAX_AGAIN - 1):
        record.spoil("rv-1", ("a",), "it differs")
    assert ("b",) == record.wanted("rv-1")

    Learned.of(path).spoil("rv-1", ("a",), "it differs")
    assert () == Learned.of(path).wanted("rv-1")
    assert ("a", "b") == Learned.of(path).wanted("rv-2")


def test_modules_that_differ_are_kept_for_the_latest_revisions_alone(path):
    record = Learned.of(path)
    record.add(("a",))
    for number in range(learned.MAX_REVISIONS + 1):
        record.spoil(f"rv-{number}", ("a",), "it differs")

    assert ("a",) == record.wanted("rv-0")
    assert () == record.wanted("rv-1")
    assert {*record.unlike} == {*record.again} == {"rv-1", "rv-2", "rv-3"}
