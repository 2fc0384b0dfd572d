"""Dicts in a real database: entries, their order, their end, and ten callers at once."""

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homeport.contract.errors import AlreadyExists, BadRequest, NotFound
from homeport.state import dicts as module
from homeport.state.dicts import Dicts
from homeport.state.scope import Scope


@pytest.fixture
async def dicts(database):
    dicts = Dicts(database)
    await dicts.objects.create("d")
    return dicts


async def everything(dicts: Dicts, *, values: bool = True) -> list[tuple[bytes, bytes]]:
    found, after = [], 0
    while after is not None:
        page, after = await dicts.page("d", after=after, values=values)
        found += page
    return found


async def test_entries_come_back(dicts):
    assert 2 == await dicts.put("d", [(b"a", b"1"), (b"b", b"\0\xff")])
    assert [b"1", None, b"\0\xff"] == await dicts.get("d", [b"a", b"c", b"b"])
    assert 2 == await dicts.count("d")
    assert await dicts.contains("d", b"a")
    assert not await dicts.contains("d", b"c")


async def test_a_later_value_takes_the_place_of_an_earlier_one(dicts):
    await dicts.put("d", [(b"a", b"1"), (b"b", b"2")])

    assert 1 == await dicts.put("d", [(b"a", b"3"), (b"c", b"4"), (b"c", b"5")])
    assert [(b"a", b"3"), (b"b", b"2"), (b"c", b"5")] == await everything(dicts)


async def test_only_new_entries_are_set_if_asked(dicts):
    await dicts.put("d", [(b"a", b"1")])

    assert 0 == await dicts.put("d", [(b"a", b"2")], only_new=True)
    assert 1 == await dicts.put("d", [(b"b", b"2")], only_new=True)
    assert [(b"a", b"1"), (b"b", b"2")] == await everything(dicts)


async def test_of_ten_that_want_a_new_entry_one_gets_it(dicts):
    ends = await asyncio.gather(
        *(dicts.put("d", [(b"lock", b"%d" % n)], only_new=True) for n in range(10))
    )

    assert 1 == sum(ends)


async def test_only_one_of_ten_callers_pops_an_entry(dicts):
    await dicts.put("d", [(b"a", b"1")])
    ends = await asyncio.gather(*(dicts.pop("d", b"a") for _ in range(10)))

    assert [None] * 9 + [b"1"] == sorted(ends, key=bool)
    assert 0 == await dicts.count("d")


async def test_many_and_large_values_come_page_by_page(dicts, monkeypatch):
    monkeypatch.setattr(module, "PAGE", 7)
    monkeypatch.setattr(module, "PAGE_BYTES", 100)
    entries = [(b"%d" % n, bytes(n * 3)) for n in range(50)]
    await dicts.put("d", entries)

    assert entries == await everything(dicts)
    assert [(key, b"") for key, _ in entries] == await everything(dicts, values=False)


async def test_an_entry_that_nobody_uses_for_seven_days_is_gone(dicts, monkeypatch):
    await dicts.put("d", [(b"a", b"1"), (b"b", b"2")])
    now = module.time.time()
    monkeypatch.setattr(module.time, "time", lambda: now + module.KEPT_S - 10)
    assert [b"1"] == await dicts.get("d", [b"a"])  # is used
    monkeypatch.setattr(module.time, "time", lambda: now + module.KEPT_S + 10)

    assert [b"1", None] == await dicts.get("d", [b"a", b"b"])
    assert [(b"a", b"1")] == await everything(dicts)
    assert 1 == await dicts.count("d")
    assert None is await dicts.pop("d", b"b")
    assert 1 == await dicts.put("d", [(b"b", b"3")], only_new=True)
    monkeypatch.setattr(module.time, "time", lambda: now + 2 * module.KEPT_S + 20)
    await dicts.sweep()
    assert 0 == await dicts.count("d")


async def test_an_update_says_how_many_entries_are_new(dicts, monkeypatch):
    await dicts.put("d", [(b"old", b"1"), (b"used", b"1")])
    now = module.time.time() + module.KEPT_S
    monkeypatch.setattr(module.time, "time", lambda: now - 10)
    await dicts.get("d", [b"used"])
    monkeypatch.setattr(module.time, "time", lambda: now + 10)  # `old` is as good as gone
    many = [(b"%d" % n, b"x") for n in range(2000)]

    assert 2001 == await dicts.put("d", [(b"used", b"2"), *many, (b"old", b"2"), (b"0", b"y")])
    assert 0 == await dicts.put("d", [(b"old", b"3"), (b"0", b"z")], only_new=True)
    assert 0 == await dicts.put("d", [(b"old", b"4")])
    last = [(b"old", b"4"), (b"0", b"y")]
    assert [(b"used", b"2"), *many[1:], *last] == await everything(dicts)


async def test_a_dict_without_entries_is_still_a_dict(dicts):
    await dicts.put("d", [(b"a", b"1")])
    await dicts.clear("d")

    assert [] == await everything(dicts)
    assert 0 == await dicts.put("d", [])


async def test_names_are_those_of_an_environment(database, dicts):
    row = dicts.objects.find("d")
    other = Dicts(database, scope=Scope(environment="test"))
    await other.objects.create("d")
    await other.put("d", [(b"a", b"other")])
    later = Dicts(database)
    await later.objects.load()

    assert [row] == later.objects.list()
    assert [] == await everything(dicts)
    assert row == await dicts.objects.create("d", allow_existing=True)
    with pytest.raises(AlreadyExists, match="the dict `d` exists"):
        await dicts.objects.create("d")


async def test_an_ephemeral_one_goes_with_the_server(database, dicts):
    row = await dicts.objects.create(None)
    await dicts.put(row.id, [(b"a", b"1")])
    later = Dicts(database)
    await later.objects.load()

    assert ["d"] == [each.name for each in later.objects.list()]
    with pytest.raises(NotFound):
        later.objects.find(row.id)


async def test_a_deleted_one_is_gone_for_who_waits_to_write(dicts):
    row = dicts.objects.find("d")
    await dicts.put("d", [(b"a", b"1")])
    deleting = asyncio.create_task(dicts.objects.delete("d"))
    writing = asyncio.create_task(dicts.put(row.id, [(b"b", b"2")]))
    await deleting
    with pytest.raises(NotFound, match="there is no dict"):
        await writing
    await dicts.objects.create("d")

    assert [] == await everything(dicts)


async def test_limits(dicts, monkeypatch):
    monkeypatch.setattr(module, "MAX_VALUE_BYTES", 10)
    with pytest.raises(BadRequest, match="value has at most 10 bytes, not 11"):
        await dicts.put("d", [(b"a", bytes(11))])
    with pytest.raises(BadRequest, match="key has at most"):
        await dicts.put("d", [(bytes(module.MAX_KEY_BYTES + 1), b"")])
    with pytest.raises(BadRequest, match="at most 10000 entries"):
        await dicts.put("d", [(b"%d" % n, b"") for n in range(10_001)])
    with pytest.raises(BadRequest, match="Invalid Dict name"):
        await dicts.objects.create("a/b")


OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from(["put", "new", "pop", "get", "clear"]),
        st.sampled_from([b"a", b"b", b"c"]),
        st.binary(max_size=3),
    ),
    max_size=20,
)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(OPERATIONS)
async def test_a_dict_behaves_as_pythons_dict(dicts, operations):
    await dicts.clear("d")
    model: dict[bytes, bytes] = {}
    for name, key, value in operations:
        if name == "put":
            assert (key not in model) == bool(await dicts.put("d", [(key, value)]))
            model[key] = value
        elif name == "new":
            assert (key not in model) == bool(await dicts.put("d", [(key, value)], only_new=True))
            model.setdefault(key, value)
        elif name == "pop":
            assert model.pop(key, None) == await dicts.pop("d", key)
        elif name == "get":
            assert [model.get(key)] == await dicts.get("d", [key])
        else:
            await dicts.clear("d")
            model.clear()
    assert list(model.items()) == await everything(dicts)
