"""The requests that are kept, in files."""

import os
import threading
from collections.abc import Iterator
from itertools import count

import pytest

from homeport.contract import recorded
from homeport.state import requests
from homeport.state.requests import LEAST_BYTES, PARTS, Place, Requests
from homeport.state.scope import MAIN, Scope
from tests.recorded import words
from tests.waiting import wait_for

OTHER = Scope("acme", "main")
PLACES = {"web": Place(MAIN, "shop", "price"), "theirs": Place(OTHER, "shop", "other")}
_ids = count()


def line(id_: str = "", **changes: str) -> list[str]:
    """Return the words of a request."""
    return words(id=id_ or f"r{next(_ids)}", **changes)


class House:
    """Requests, and what the control plane knows of endpoints and containers."""

    def __init__(self, root, cap_bytes: int = PARTS * LEAST_BYTES) -> None:
        self.root = root
        self.places, self.revisions = dict(PLACES), {"ta-1": "rv-1"}
        self.requests = Requests(root, cap_bytes)

    def add(self, *lines: list[str]) -> None:
        self.requests.add(lines, self.places.get, lambda name: self.revisions.get(name, ""))

    def ids(self, scope: Scope = MAIN, count: int = 1000, **more) -> list[str]:
        wants = more.pop("wants", lambda _words, _app, _tag: True)
        return [k.request.id for k in self.requests.search(scope, count, wants, **more)]

    def again(self) -> "House":
        """Return the house after a restart."""
        self.requests.close()
        return House(self.root)


@pytest.fixture
def house(tmp_path) -> Iterator[House]:
    house = House(tmp_path / "requests")
    yield house
    house.requests.close()


def test_a_request_comes_back_with_its_app_and_its_revision(house):
    house.add(line("a", target="/x?y=1"))
    (kept,) = house.requests.search(MAIN, 10, lambda *_: True)

    assert ("shop", "price", "rv-1") == (kept.app, kept.tag, kept.revision)
    assert recorded.decode(line("a", target="/x?y=1")) == kept.request
    assert kept == house.requests.find(MAIN, "a")
    assert house.requests.find(MAIN, "b") is None


async def test_a_follower_gets_the_wanted_ones_of_its_environment_as_they_end(house):
    house.add(line("before"))
    with house.requests.following(MAIN, lambda words, _app, _tag: "b" != words[2]) as follower:
        house.add(line("a"), line("b"), line("theirs", endpoint="theirs"), line("c"))
        house.add(line("d"))
        first, _ = await follower.next(2)
        second, lost = await follower.next(2)
    house.add(line("after"))

    assert (["a", "c"], ["d"], 0) == (
        [each.request.id for each in first],
        [each.request.id for each in second],
        lost,
    )
    assert ("shop", "price", "rv-1") == (first[0].app, first[0].tag, first[0].revision)
    assert not follower._rows
    assert not house.requests._followers


async def test_a_slow_follower_loses_requests_and_gets_their_number(house):
    with house.requests.following(MAIN, lambda *_: True) as follower:
        house.add(*(line(f"{number}") for number in range(requests.FOLLOWED + 3)))
        house.add(line())
        found, lost = await follower.next(requests.FOLLOWED - 1)
        assert (requests.FOLLOWED - 1, 0) == (len(found), lost)
        found, lost = await follower.next(10)
        assert (1, 4) == (len(found), lost)
        house.add(line("later"))
        found, lost = await follower.next(10)

    assert (["later"], 0) == ([each.request.id for each in found], lost)


async def test_requests_can_be_followed_though_none_are_kept(tmp_path):
    house = House(tmp_path / "requests", 0)
    try:
        with house.requests.following(MAIN, lambda *_: True) as follower:
            house.add(line("a"))
            found, _ = await follower.next(10)
        assert ["a"] == [each.request.id for each in found]
    finally:
        house.requests.close()


def test_the_last_ones_come_and_the_oldest_first(house):
    house.add(*(line(f"{number}") for number in range(5)))

    assert ["3", "4"] == house.ids(count=2)


def test_an_environment_has_its_own(house):
    house.add(line("ours"), line("theirs", endpoint="theirs"))
    assert ["ours"] == house.ids()
    assert ["theirs"] == house.ids(OTHER)
    assert house.requests.find(MAIN, "theirs") is None
    house.requests.remove(OTHER)

    assert [] == house.ids(OTHER)
    assert ["ours"] == house.ids()


def test_an_endpoint_may_change_its_app_and_each_request_keeps_its_own(house):
    house.add(line("a"))
    house.places["web"] = Place(MAIN, "bank", "rate")
    house.revisions["ta-1"] = "rv-2"
    house.add(line("b"))

    found = house.requests.search(MAIN, 10, lambda *_: True)
    assert [("shop", "rv-1"), ("bank", "rv-2")] == [(k.app, k.revision) for k in found]
    assert ["b"] == house.ids(wants=lambda _words, app, _tag: app == "bank")


def test_a_request_to_an_endpoint_that_nobody_had_is_left_out(house):
    house.add(line("a", endpoint="nobody"), line("b"))

    assert ["b"] == house.ids()


def test_the_files_are_never_larger_than_the_cap(house):
    for _ in range(40):
        house.add(*(line(target="/" + "x" * 200) for _ in range(100)))
    ids = house.ids()
    paths = list(house.root.glob("*.log"))

    assert PARTS == len(paths)
    # The marks come on top of it.
    assert sum(path.stat().st_size for path in paths) < PARTS * (LEAST_BYTES + 200)
    assert f"r{next(_ids) - 1}" == ids[-1]
    assert 1000 == len(ids)


def test_a_restart_keeps_them_and_goes_on_with_the_same_file(house):
    house.add(line("a"))
    later = house.again()
    later.add(line("b"))
    try:
        assert ["a", "b"] == later.ids()
        assert {"a", "b"} == later.requests.recent()
        assert 1 == len(list(later.root.glob("*.log")))
    finally:
        later.requests.close()


def test_half_a_line_of_a_crash_is_let_be(house):
    house.add(line("a"))
    house.requests.close()
    (path,) = house.root.glob("*.log")
    with path.open("a") as file:
        file.write(" ".join(line("half"))[:-30])
    later = House(house.root)
    later.add(line("b"))
    try:
        assert ["a", "b"] == later.ids()
    finally:
        later.requests.close()


def test_older_files_are_not_read_for_newer_requests(house, monkeypatch):
    house.add(line("old", ended="1000"))
    house.requests._queue.put(lambda: house.requests._files[MAIN].close())
    (path,) = house.root.glob("*.log") if house.ids() else ()
    path.rename(path.with_name("1000000.log"))
    path.with_name("1000001.log").write_text(" ".join(line("middle", ended="5000000")) + "\n")
    path.with_name("1000002.log").write_text(" ".join(line("new", ended="9000000")) + "\n")
    read = []
    original = type(path).read_bytes
    monkeypatch.setattr(
        type(path), "read_bytes", lambda self: read.append(self.name) or original(self)
    )

    assert ["middle", "new"] == house.ids(since=6000.0)
    assert ["1000002.log", "1000001.log"] == read


def test_a_full_disk_loses_lines_and_says_how_many(house, monkeypatch, caplog):
    full = True
    write = os.write

    def refuse(descriptor: int, data: bytes) -> int:
        if full and data.startswith(b"@"):
            write(descriptor, data[:7])  # some of it fits
            raise OSError(28, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", refuse)
    house.add(line("a"))
    house.add(line("b"))
    assert [] == house.ids()
    full = False
    house.add(line("c"))

    assert ["c"] == house.ids()
    texts = [record.getMessage() for record in caplog.records]
    assert ["requests are not recorded: No space left on device"] == texts[:1]
    assert "2 requests were not recorded" in texts[1]


def test_requests_that_a_slow_disk_cannot_take_are_counted(house, monkeypatch, caplog):
    monkeypatch.setattr(requests, "QUEUED", 3)
    monkeypatch.setattr(requests, "DISK_S", 0.01)
    gate = threading.Event()
    house.requests._queue.put(gate.wait)
    wait_for(lambda: house.requests._queue.empty(), "the thread at the disk")
    for number in range(9):
        house.add(line(f"{number}"))
    assert [] == house.ids()  # a search does not wait for such a disk
    gate.set()
    monkeypatch.setattr(requests, "DISK_S", 60)

    assert ["0", "1", "2", "3"] == house.ids()
    assert "5 requests were not recorded" in caplog.text


def test_with_a_cap_of_0_none_are_kept(tmp_path):
    house = House(tmp_path / "requests", 0)
    house.add(line())
    try:
        assert [] == house.ids()
        assert not house.root.exists()
    finally:
        house.requests.close()


async def test_a_request_comes_back_with_the_machine_that_answered_it(house, tmp_path):
    house.requests.node_of = lambda container: {"ta-2": "worker-1"}.get(container, "")
    house.revisions["ta-2"] = "rv-1"
    with house.requests.following(MAIN, lambda *_: True) as follower:
        house.add(line("a"), line("b", container="ta-2"), line("c"))
        rows, _ = await follower.next(10)
    house = house.again()
    kept = house.requests.search(MAIN, 10, lambda *_: True)
    house.requests.close()

    wanted = [("a", "", "rv-1"), ("b", "worker-1", "rv-1"), ("c", "", "rv-1")]
    assert wanted == [(each.request.id, each.node, each.revision) for each in kept]
    assert wanted == [(each.request.id, each.node, each.revision) for each in rows]


def test_a_file_of_an_earlier_version_is_read(house):
    house.add(line("a"))
    (path,) = house.requests.written(MAIN)

    assert '# ta-1 "rv-1"\n' in path.read_text()
