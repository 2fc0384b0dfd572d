"""Dicts and queues over HTTP: what containers, commands and scripts ask."""

import asyncio
import contextlib

import httpx
import pytest

from homeport.contract import frames
from homeport.control.api import bodies
from homeport.control.api.access import Inside
from tests.control.api.served import api_of, client
from tests.control.plane import KEY, Plane
from tests.fakes import FakeNode


@contextlib.asynccontextmanager
async def served(home):
    async with Plane(home, FakeNode(0.01)) as plane, client(plane, home) as http:
        yield http


def kind(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["kind"]


async def test_a_dict_from_its_beginning_to_its_end(tmp_path):
    async with served(tmp_path) as http:
        made = (await http.post("/v1/dicts", json={"name": "d"})).json()
        path = f"/v1/dicts/{made['id']}"
        put = await http.post(f"{path}/put", content=frames.pack([b"a", b"1", b"b", b""]))
        again = await http.post(f"{path}/put?only_new=1", content=frames.pack([b"a", b"2"]))
        got = await http.post("/v1/dicts/d/get", content=frames.pack([b"a", b"b", b"c"]))
        there = await http.post(f"{path}/contains", content=frames.pack([b"a", b"c"]))
        page = frames.unpack((await http.get(f"{path}/items")).content)
        keys = frames.unpack((await http.get(f"{path}/items?keys=1")).content)
        end = frames.unpack((await http.get(f"{path}/items?after={page[0].decode()}")).content)
        popped = await http.post(f"{path}/pop", content=frames.pack([b"a", b"c"]))
        listed = (await http.get("/v1/dicts")).json()["objects"]
        await http.post(f"{path}/clear")
        left = (await http.get(path)).json()["length"]
        await http.delete("/v1/dicts/d")
        gone = await http.get("/v1/dicts/d")

    assert ({"count": 2}, {"count": 0}, {"count": 1}) == (put.json(), again.json(), there.json())
    assert [b"1", b"", None] == frames.unpack(got.content)
    assert [b"a", b"1", b"b", b""] == page[1:]
    assert [b"a", b"", b"b", b""] == keys[1:]
    assert [b""] == end
    assert [b"1", None] == frames.unpack(popped.content)
    assert [("d", 1)] == [(each["name"], each["length"]) for each in listed]
    assert 0 == left
    assert (404, "NotFound") == kind(gone)


async def test_a_queue_from_its_beginning_to_its_end(tmp_path):
    async with served(tmp_path) as http:
        await http.post("/v1/queues", json={"name": "q"})
        path = "/v1/queues/q"
        waiting = asyncio.create_task(http.post(f"{path}/get?wait_s=30&partition=late"))
        await http.post(f"{path}/put", content=frames.pack([b"1", b"2", b"3"]))
        await http.post(f"{path}/put?partition=late", content=frames.pack([b"4"]))
        late = await waiting
        got = await http.post(f"{path}/get?count=2")
        page = frames.unpack((await http.get(f"{path}/items")).content)
        length = (await http.get(f"{path}/length")).json()
        await http.post(f"{path}/clear?every=1")
        none = await http.post(f"{path}/get")
        listed = (await http.get("/v1/queues")).json()["objects"]
        await http.delete(path)

    assert [b"4"] == frames.unpack(late.content)
    assert [b"1", b"2"] == frames.unpack(got.content)
    assert [b"3"] == page[1:]
    assert {"count": 1} == length
    assert b"" == none.content
    assert [("q", 0)] == [(each["name"], each["length"]) for each in listed]


async def test_a_full_queue_is_told_by_its_status(tmp_path, monkeypatch):
    from homeport.state import queues

    monkeypatch.setattr(queues, "MAX_ITEMS", 1)
    async with served(tmp_path) as http:
        await http.post("/v1/queues", json={"name": "q"})
        await http.post("/v1/queues/q/put", content=frames.pack([b"1"]))
        full = await http.post("/v1/queues/q/put", content=frames.pack([b"2"]))

    assert (429, "TooMany") == kind(full)


@pytest.mark.parametrize("body", [b"\0\0\0", b"\0\0\0\5abc", b"\xff\xff\xff\xff", b"\0\0\0\1a"])
async def test_a_body_that_is_no_list_of_entries_is_refused(tmp_path, body):
    async with served(tmp_path) as http:
        await http.post("/v1/dicts", json={"name": "d"})
        answer = await http.post("/v1/dicts/d/put", content=body)

    assert (400, "BadRequest") == kind(answer)


async def test_a_large_body_comes_whole_and_one_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(bodies, "MAX_BODY_BYTES", 5 * bodies.SMALL_BODY_BYTES)
    value = bytes(range(256)) * (4 * bodies.SMALL_BODY_BYTES // 256)

    async def without_end():
        while True:
            yield bytes(65536)

    async with served(tmp_path) as http:
        await http.post("/v1/dicts", json={"name": "d"})
        await http.post("/v1/dicts/d/put", content=frames.pack([b"a", value]))
        got = await http.post("/v1/dicts/d/get", content=frames.pack([b"a"]))
        refused = await http.post("/v1/dicts/d/put", content=without_end())

    assert [value] == frames.unpack(got.content)
    assert (400, "BadRequest") == kind(refused)


@pytest.mark.parametrize("after", ["x", "-1", "1" * 20, "\u0661"])
async def test_a_place_that_no_page_told_is_refused(tmp_path, after):
    async with served(tmp_path) as http:
        await http.post("/v1/dicts", json={"name": "d"})
        answer = await http.get("/v1/dicts/d/items", params={"after": after})

    assert (400, "BadRequest") == kind(answer)


async def test_containers_may_use_the_routes_of_dicts_and_queues_and_no_others(tmp_path):
    plane = Plane(tmp_path, FakeNode(0.01))
    async with plane, api_of(plane, tmp_path) as server:
        transport = httpx.ASGITransport(Inside(server.api.inside(), plane.environments.by_key))
        async with httpx.AsyncClient(
            transport=transport, base_url="http://inside", headers={"X-Homeport-Key": KEY}
        ) as http:
            made = await http.post("/v1/dicts", json={"name": "d"})
            refused = {
                path: (await http.request(method, path)).status_code
                for method, path in (
                    ("GET", "/v1/status"),
                    ("POST", "/v1/shutdown"),
                    ("GET", "/v1/apps"),
                    ("GET", "/v1/secrets"),
                    ("POST", "/v1/proxy-tokens"),
                    ("GET", "/v1/volumes"),
                    ("GET", "/v1/logs/x"),
                    ("POST", "/v1/serve"),
                )
            }

    assert 200 == made.status_code
    assert {404} == set(refused.values()), refused
