"""Which entries a map accepts, on disk and in commands of the Runtime API."""

import asyncio
import hashlib

import pytest

from homeport.ingress import maps as files
from homeport.ingress.maps import Maps, pool_text
from homeport.ingress.publisher import Changes
from tests.waiting import virtually

POOL = "app/f/rv-1"
HASH = "0" * 64
GOOD = [
    ("hosts", "hello.localhost", "me--hello"),
    ("hosts", "*.shop.example", "me--shop"),
    ("ports", "4664", "me--hello"),
    ("pools", "me--hello", "my%20app/gr%C3%BC%C3%9Fe/rv-1"),
    ("methods", "me--hello", "gr%C3%BC%C3%9Fe"),
    ("guards", "me--hello", f"1.{'ab' * 10}.{'cd' * 10}:0:-:0:{'cd' * 10}"),
    ("guards", "me--hello", "0:10:s:1:0123456789abcdef0123"),
    ("timeouts", "me--hello", "301000"),
    ("parameters", "me--hello", "a,b"),
    ("backends", f"{POOL}?{HASH}", "b12"),
    ("tokens", "1-wk-1", f"{HASH}:9999999999:-:0:0:-:0"),
    ("tokens", "1-wk-1", f"{HASH}:1:{HASH}:2:600:m:1"),
]
BAD_TEXT = ["a b", "a\nb", "a;b", "a\\", "<<", "a\x00b", "größe", "", "a\tb", "#", "a$b", "\x1b[2J"]


@pytest.mark.parametrize(("name", "key", "value"), GOOD)
def test_an_entry_that_belongs_into_a_map_is_taken_and_survives_the_disk(
    tmp_path, name, key, value
):
    maps = Maps(tmp_path)
    maps.put(name, key, value)
    commands = maps.commands()
    maps.save()
    after = Maps(tmp_path)
    after.load()

    assert [("add", "map", f"{name}.map", key, value)] == commands
    assert value == after.get(name, key)


def test_a_map_that_is_replaced_has_the_new_entries_alone(tmp_path):
    """A proxy token that was deleted is in the map no more."""
    maps = Maps(tmp_path)
    opens = f"{HASH}:1:-:0:0:-:0"
    maps.replace("tokens", {"1-wk-1": opens, "1-wk-2": opens})
    maps.commit()
    maps.replace("tokens", {"1-wk-2": opens, "1-wk-3": opens})
    commands = maps.commands()
    maps.save()
    after = Maps(tmp_path)
    after.load()

    assert [
        ("del", "map", "tokens.map", "1-wk-1"),
        ("add", "map", "tokens.map", "1-wk-3", opens),
    ] == commands
    assert {"1-wk-2": opens, "1-wk-3": opens} == dict(after.items("tokens"))


@pytest.mark.parametrize("text", BAD_TEXT)
@pytest.mark.parametrize(("name", "key", "value"), GOOD)
def test_nothing_that_could_be_another_line_or_command_is_taken(tmp_path, name, key, value, text):
    maps = Maps(tmp_path)
    for bad in ((text, value), (key, text), (key + text, value), (key, value + text)):
        if bad != (key, value):
            with pytest.raises(ValueError, match="not for the map"):
                maps.put(name, *bad)

    assert [] == maps.commands()


def test_a_line_that_somebody_wrote_into_a_file_is_not_believed(tmp_path):
    (tmp_path / "hosts.map").write_bytes(b"good.localhost me--a\nb;help x\n\xff y\nalone\n")
    maps = Maps(tmp_path)
    maps.load()

    assert [("good.localhost", "me--a")] == maps.items("hosts")


def test_class_parameters_are_in_the_key_as_a_hash_alone():
    assert POOL == pool_text(POOL)
    assert f"{POOL}?{hashlib.sha256(b'a=%3B').hexdigest()}" == pool_text(f"{POOL}?a=%3B")


def test_a_change_that_is_taken_back_leaves_nothing(tmp_path):
    maps = Maps(tmp_path)
    maps.put("guards", "kept", "1:0:-:0:-")
    maps.put("hosts", "a.x", "e")
    maps.commit()
    maps.put("hosts", "a.x", "f")
    maps.put("hosts", "a.x", "g")
    maps.put("hosts", "b.x", "g")
    maps.put("guards", "kept", None)
    changes = maps.commands()
    maps.revert()

    assert [("set", "a.x"), ("add", "b.x"), ("del", "kept")] == [(c[0], c[3]) for c in changes]
    assert [("a.x", "e")] == maps.items("hosts")
    assert [("kept", "1:0:-:0:-")] == maps.items("guards")
    assert [] == maps.commands()


def test_a_command_is_returned_once_in_a_change_and_what_follows_builds_on_it(tmp_path):
    maps = Maps(tmp_path)
    maps.put("hosts", "a.x", "e")
    maps.commit()
    maps.put("hosts", "a.x", None)
    first = maps.commands()
    maps.put("hosts", "b.x", "f")
    second = maps.commands()
    maps.put("hosts", "a.x", "e")
    third = maps.commands()
    maps.commit()
    maps.put("hosts", "a.x", "g")

    assert [("del", "map", "hosts.map", "a.x")] == first
    assert [("add", "map", "hosts.map", "b.x", "f")] == second
    assert [("add", "map", "hosts.map", "a.x", "e")] == third
    assert [("set", "map", "hosts.map", "a.x", "g")] == maps.commands()


def test_an_entry_that_the_disk_does_not_take_is_written_when_there_is_room(tmp_path):
    maps = Maps(tmp_path / "later")
    maps.put("hosts", "a.x", "e")
    with pytest.raises(OSError, match="No such file"):
        maps.save()
    (tmp_path / "later").mkdir()
    maps.save()

    assert "a.x e\n" == (tmp_path / "later" / "hosts.map").read_text()


class Still:
    """A supervisor whose process is well."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()

    async def mend(self) -> None:
        pass


def test_large_maps_are_written_a_little_later_and_small_ones_at_once(tmp_path, monkeypatch):
    def there() -> int:
        return len((tmp_path / "hosts.map").read_text().splitlines())

    async def story() -> None:
        kept = Maps(tmp_path)
        changes = Changes(kept, Still())

        async def add(host: str) -> None:
            async def change(_undo) -> None:
                kept.put("hosts", host, "e")

            await changes._whole("a host", change)

        await add("a.x")
        await add("b.x")
        assert 2 == there()
        monkeypatch.setattr(files, "LARGE", 0)
        await add("c.x")
        changes._save_at = asyncio.get_running_loop().time() + 5
        await add("d.x")
        await add("e.x")
        assert 3 == there()
        await asyncio.sleep(5.1)
        assert 5 == there()
        changes._save_at = asyncio.get_running_loop().time() + 5
        await add("f.x")
        changes._save_now()
        assert 6 == there()

    virtually(story())
