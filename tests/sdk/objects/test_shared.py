"""Dict and Queue against the real server: as a container uses them, blocking and with `.aio`."""

import asyncio
import queue

import pytest

from homeport.sdk import context, exception
from homeport.sdk.objects.dict import Dict
from homeport.sdk.objects.queue import Queue
from homeport.wire import blocking as blocking_wire
from homeport.wire import looped
from tests.control.api.served import on_a_socket
from tests.control.plane import Plane
from tests.fakes import FakeNode


@pytest.fixture
async def server(tmp_path, monkeypatch):
    """A server whose socket this process reaches as a container does."""
    plane = Plane(tmp_path, FakeNode(0.01))
    async with plane, on_a_socket(plane, tmp_path):
        reach = context.Reach(socket=str(plane.settings.control_socket), key="k")
        monkeypatch.setattr(context, "_reach", reach)
        yield
        for connections in looped._idle.pop(asyncio.get_running_loop(), {}).values():
            for connection in connections:
                connection.close()


def blocking(work, *args, **options):
    """What user's code that blocks does, beside the server's loop."""

    def run():
        try:
            return work(*args, **options)
        finally:  # as at the end of a thread
            if blocking_wire._own.connection is not None:
                blocking_wire._own.connection.close()
                blocking_wire._own.connection = None

    return asyncio.to_thread(run)


async def test_a_dict_blocks_or_does_not(server):
    d = Dict.from_name("d", create_if_missing=True)

    def use():
        d["a"] = {"deep": [1, 2]}
        d[("tuple", 1)] = None
        assert {"deep": [1, 2]} == d["a"] == d.get("a")
        assert None is d[("tuple", 1)]
        assert "a" in d
        assert "b" not in d
        assert ("none", None) == (d.get("b", "none"), d.get("b"))
        assert d.put("b", 1, skip_if_exists=True)
        assert not d.put("b", 2, skip_if_exists=True)
        assert d.put("b", 3)
        d.update({"c": 4}, e=5)
        assert ["a", ("tuple", 1), "b", "c", "e"] == list(d.keys())
        assert [("b", 3), ("c", 4), ("e", 5)] == list(d.items())[2:]
        assert 5 == len(d) == d.len()
        assert 3 == d.pop("b")
        assert "gone" == d.pop("b", "gone")
        with pytest.raises(KeyError):
            d.pop("b")
        with pytest.raises(KeyError):
            d["b"]
        del d["c"]
        assert d.contains("e")
        d.clear()
        assert [] == list(d.values())

    await blocking(use)
    await d.put.aio("x", 1)
    await d.update.aio({"y": 2})
    assert 1 == await d.get.aio("x")
    assert await d.contains.aio("y")
    assert 2 == await d.len.aio()
    assert [("x", 1), ("y", 2)] == [item async for item in d.items.aio()]
    assert ["x", "y"] == [key async for key in d.keys.aio()]
    assert [1, 2] == [value async for value in d.values.aio()]
    assert 2 == await d.pop.aio("y")
    assert "d" == (await d.info.aio()).name
    assert d.object_id.startswith("di-")


async def test_many_entries_come_in_pages(server, monkeypatch):
    from homeport.state import dicts

    monkeypatch.setattr(dicts, "PAGE", 3)
    async with Dict.ephemeral() as d:
        await d.update.aio({n: str(n) for n in range(10)})

        assert list(range(10)) == await blocking(lambda: list(d.keys()))
        assert [(n, str(n)) for n in range(10)] == [item async for item in d.items.aio()]


async def test_an_object_that_does_not_exist_is_an_error_that_names_it(server):
    with pytest.raises(exception.NotFoundError, match="there is no dict `nobody`"):
        await Dict.from_name("nobody").len.aio()
    with pytest.raises(exception.InvalidError, match="Invalid Dict name: 'a/b'"):
        Dict.from_name("a/b")
    with pytest.raises(exception.ExecutionError, match="no id"):
        _ = Queue.from_name("q").object_id
    d = Dict.from_name("d", create_if_missing=True)
    await d.put.aio("a", 1)
    await Dict.objects.delete.aio("d")
    with pytest.raises(exception.NotFoundError):
        await d.get.aio("a")


async def test_objects_lists_creates_and_deletes(server):
    await Queue.objects.create.aio("one")
    await Queue.objects.create.aio("two")
    await Queue.objects.create.aio("two", allow_existing=True)
    with pytest.raises(exception.AlreadyExistsError):
        await Queue.objects.create.aio("one")

    assert ["two", "one"] == [q.name for q in await Queue.objects.list.aio()]
    assert ["two"] == [q.name for q in await Queue.objects.list.aio(max_objects=1)]
    await blocking(Queue.delete, "one")
    assert ["two"] == [q.name for q in await Queue.objects.list.aio()]
    await Queue.objects.delete.aio("one", allow_missing=True)
    with pytest.raises(exception.NotFoundError):
        await Queue.objects.delete.aio("one")


async def test_an_ephemeral_one_ends_with_its_block(server):
    async with Queue.ephemeral() as q:
        await q.put.aio(1)
        found = q.object_id
    with pytest.raises(exception.NotFoundError):
        await Queue.from_id(found).len.aio()


async def test_a_queue_blocks_or_does_not(server):
    q = Queue.from_name("q", create_if_missing=True)

    def use():
        q.put({"job": 1})
        q.put_many([2, 3])
        q.put("other", partition="p")
        assert (3, 1, 4) == (q.len(), q.len(partition="p"), q.len(total=True))
        assert [{"job": 1}, 2, 3] == list(q.iterate())
        assert {"job": 1} == q.get()
        assert [2, 3] == q.get_many(10)
        assert "other" == q.get(partition="p")
        assert None is q.get(block=False)
        assert [] == q.get_many(5, block=False)
        with pytest.raises(queue.Empty):
            q.get(timeout=0.01)
        q.put(1)
        q.clear()
        assert 0 == len(q)

    await blocking(use)
    waiting = asyncio.create_task(q.get.aio(timeout=60))
    await q.put.aio("late")
    assert "late" == await waiting
    await q.put_many.aio([1, 2])
    assert [1, 2] == [value async for value in q.iterate.aio()]
    assert [1, 2] == await q.get_many.aio(2)


async def test_a_caller_that_waits_without_an_end_asks_again(server, monkeypatch):
    monkeypatch.setattr("homeport.sdk.objects.exchange.WAIT_S", 0.05)
    q = Queue.from_name("q", create_if_missing=True)
    waiting = asyncio.create_task(q.get.aio())
    done, _ = await asyncio.wait([waiting], timeout=0.3)
    await q.put.aio("now")

    assert not done
    assert "now" == await waiting


async def test_a_full_queue(server, monkeypatch):
    from homeport.state import queues

    monkeypatch.setattr(queues, "MAX_ITEMS", 1)
    q = Queue.from_name("q", create_if_missing=True)
    await q.put.aio(1)
    with pytest.raises(queue.Full):
        await q.put.aio(2, block=False)
    with pytest.raises(queue.Full):
        await q.put.aio(2, timeout=0.01)
    waiting = asyncio.create_task(q.put.aio(2, timeout=60))
    assert 1 == await q.get.aio()
    await waiting
    assert 2 == await q.get.aio()


@pytest.mark.parametrize("partition", ["", "ü" * 33, 7])
async def test_a_partition_has_a_name(server, partition):
    q = Queue.from_name("q", create_if_missing=True)
    with pytest.raises(exception.InvalidError, match="between 1 and 64 bytes"):
        await q.put.aio(1, partition=partition)


async def test_a_value_that_cannot_be_pickled_is_said(server):
    d = Dict.from_name("d", create_if_missing=True)
    with pytest.raises(exception.SerializationError):
        await d.put.aio("a", (n for n in range(3)))


async def test_a_container_that_may_not_ask_is_told_why(server, monkeypatch):
    monkeypatch.setattr(context, "_reach", context.Reach(socket=""))
    with pytest.raises(exception.ExecutionError, match="restrict_modal_access"):
        await Dict.from_name("d").len.aio()


async def test_a_server_that_is_away_is_waited_for(tmp_path, monkeypatch):
    plane = Plane(tmp_path, FakeNode(0.01))
    reach = context.Reach(socket=str(plane.settings.control_socket), key="k")
    monkeypatch.setattr(context, "_reach", reach)
    d = Dict.from_name("d", create_if_missing=True)
    asking = asyncio.create_task(d.put.aio("a", 1))
    await asyncio.wait([asking], timeout=0.3)
    assert not asking.done()
    async with plane, on_a_socket(plane, tmp_path):
        assert await asking
    monkeypatch.setattr("homeport.sdk.objects.exchange.PATIENCE_S", 0.1)
    with pytest.raises(exception.ConnectionError, match="does not answer"):
        await d.get.aio("a")
