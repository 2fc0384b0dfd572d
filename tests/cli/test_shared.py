"""`homeport dict …` and `homeport queue …` as a user types them."""

import json
import pickle

import pytest

from homeport.client import Client
from homeport.contract import frames
from homeport.sdk import keys
from homeport.sdk.objects.shared import query


async def put(user, entries):
    """Put entries into the dict `seen`."""
    parts = [part for key, value in entries for part in (keys.pack(key), pickle.dumps(value))]
    async with Client(user.plane.settings) as client:
        await client.dicts.exchange("POST", "seen", "put", frames.pack(parts))


async def put_queue(user, values, partition=""):
    """Put values into the queue `jobs`."""
    path = query("put", partition=partition)
    async with Client(user.plane.settings) as client:
        body = frames.pack([pickle.dumps(value) for value in values])
        await client.queues.exchange("POST", "jobs", path, body)


async def test_a_dict_is_created_read_cleared_and_deleted(typed):
    async with typed() as user:
        assert "no dict" in (await user.run("dict", "list")).stderr
        created = await user.run("dict", "create", "seen")
        assert "no entry" in (await user.run("dict", "items", "seen")).stderr
        await put(user, [("a", 1), ("b", "\x1b[2Jtext"), *((f"k{n}", n) for n in range(30))])
        (told,) = json.loads((await user.run("dict", "list", "--json")).stdout)
        table = (await user.run("dict", "list")).stdout
        one = (await user.run("dict", "get", "seen", "a")).stdout
        hostile = (await user.run("dict", "get", "seen", "b")).stdout
        missing = await user.refused("dict", "get", "seen", "none")
        first = (await user.run("dict", "items", "seen")).stdout
        three = json.loads((await user.run("dict", "items", "seen", "3", "--json")).stdout)
        every = json.loads((await user.run("dict", "items", "seen", "--all", "--json")).stdout)
        unasked = await user.refused("dict", "clear", "seen")
        cleared = await user.run("dict", "clear", "seen", "--yes")
        empty = json.loads((await user.run("dict", "items", "seen", "--json")).stdout)
        deleted = await user.run("dict", "delete", "seen", "--yes")
        gone = await user.refused("dict", "delete", "seen", "--yes")
        allowed = await user.run("dict", "delete", "seen", "--yes", "--allow-missing")

    assert "✓ Dict `seen`. In your script:" in created.stderr
    assert 'dict = modal.Dict.from_name("seen")' in created.stdout
    assert ("seen", 32) == (told["name"], told["length"])
    assert ["seen", "32"] == table.splitlines()[1].split()[:2]
    assert ["Name", "Entries", "Created", "at"] == table.splitlines()[0].split()
    assert "1\n" == one
    assert "\x1b" not in hostile
    assert "the dict `seen` has no key `none`" in missing
    assert 21 == len(first.splitlines())
    assert [{"key": "'a'", "value": "1"}] == three[:1]
    assert (3, 32) == (len(three), len(every))
    assert "Rerun with --yes" in unasked
    assert "✓ Cleared the dict `seen`." in cleared.stderr
    assert [] == empty
    assert "✓ Deleted the dict `seen`." in deleted.stderr
    assert "seen" in gone
    assert "There is no dict `seen`." in allowed.stderr


async def test_a_queue_is_created_read_cleared_and_deleted(typed):
    async with typed() as user:
        created = json.loads((await user.run("queue", "create", "jobs", "--json")).stdout)
        await put_queue(user, [1, 2, 3])
        await put_queue(user, ["x"], partition="late")
        table = (await user.run("queue", "list")).stdout
        lengths = [
            (await user.run("queue", "len", "jobs", *words)).stdout
            for words in ([], ["-p", "late"], ["--total"])
        ]
        peeked = [
            (await user.run("queue", "peek", "jobs", *words)).stdout
            for words in ([], ["2"], ["9"], ["-p", "late"], ["-p", "none"])
        ]
        unasked = await user.refused("queue", "clear", "jobs")
        cleared = await user.run("queue", "clear", "jobs", "--yes")
        left = (await user.run("queue", "len", "jobs", "--total")).stdout
        await user.run("queue", "clear", "jobs", "--all", "--yes")
        none = (await user.run("queue", "len", "jobs", "--total")).stdout
        await user.refused("queue", "delete", "jobs")
        deleted = await user.run("queue", "delete", "jobs", "--yes")
        allowed = await user.run("queue", "delete", "jobs", "--yes", "--allow-missing")
        empty = await user.run("queue", "list")

    assert "jobs" == created["name"]
    assert ["Name", "Values", "Created", "at"] == table.splitlines()[0].split()
    assert ["3\n", "1\n", "4\n"] == lengths
    assert ["1\n", "1\n2\n", "1\n2\n3\n", "'x'\n", ""] == peeked
    assert "Rerun with --yes" in unasked
    assert "✓ Cleared the queue `jobs`." in cleared.stderr
    assert ("1\n", "0\n") == (left, none)
    assert "✓ Deleted the queue `jobs`." in deleted.stderr
    assert "There is no queue `jobs`." in allowed.stderr
    assert "no queue" in empty.stderr


@pytest.mark.parametrize("words", [["len", "--total"], ["clear", "--all", "--yes"]])
async def test_one_partition_is_not_all_of_them(typed, words):
    async with typed() as user:
        await user.run("queue", "create", "jobs")
        await put_queue(user, [1])
        refused = await user.refused("queue", words[0], "jobs", "-p", "late", *words[1:])
        left = (await user.run("queue", "len", "jobs", "--total")).stdout

    assert f"`--partition` and `{words[1]}` do not go together" in refused
    assert "1\n" == left


@pytest.mark.parametrize("kind", ["dict", "queue"])
async def test_a_missing_object_is_named(typed, kind):
    words = ["items", "none"] if kind == "dict" else ["len", "none"]
    async with typed() as user:
        assert "none" in await user.refused(kind, *words)
