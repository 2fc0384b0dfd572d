"""Each requirement in `http_rules.py`, tested with a real HAProxy, with a container that records what it gets."""

import asyncio
import contextlib
import re
import socket
import threading
from pathlib import Path

import pytest
from hpack import Decoder
from hyperframe.frame import DataFrame, Frame, GoAwayFrame, HeadersFrame, RstStreamFrame

from homeport.contract.traffic import Endpoint
from homeport.ingress.haproxy import HAProxy
from homeport.settings import Settings
from tests.ingress import http_rules as rules
from tests.ingress.conftest import POOL
from tests.ingress.http_rules import Case, Seen

KNOWN = rules.KNOWN.encode()
QUIET_S = 0.4  # after that, nothing more comes: only for cases that leave a connection open
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\npath=%s"


class Recorder:
    """A container that records each request and answers as `rules.ANSWERS` says."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []

    async def visit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(
            OSError, asyncio.IncompleteReadError, asyncio.CancelledError, ValueError
        ):
            while await self._answer(reader, writer):
                pass
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async def _answer(self, reader, writer) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n"))[:-4]
        empty = Seen(head, b"")
        self.seen.append(empty)
        place = len(self.seen) - 1
        if empty.fields.get(b"expect") == [b"100-continue"]:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.seen[place] = Seen(head, await self._body(empty, reader))
        path = head.split(b" ")[1]
        answer = rules.ANSWERS.get(path)
        if answer is not None:
            writer.write(answer)
            await writer.drain()
            return False
        path = path[:100]
        writer.write(ANSWER % (len(path) + 5, path))
        await writer.drain()
        return True

    async def _body(self, seen: Seen, reader) -> bytes:
        if b"transfer-encoding" not in seen.fields:
            return await reader.readexactly(int(seen.fields.get(b"content-length", [b"0"])[0]))
        body = b""
        while size := int((await reader.readline()).split(b";")[0], 16):
            body += await reader.readexactly(size)
            await reader.readline()
        while (await reader.readline()) != b"\r\n":
            pass
        return body


class House:
    """An ingress in its own thread, so that all cases share it."""

    def __init__(self, root: Path) -> None:
        self.recorder = Recorder()
        self.port = 0
        self._root = root
        self._up = threading.Event()
        self._down: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=asyncio.run, args=(self._run(),))
        self._thread.start()
        self._up.wait(60)

    async def _run(self) -> None:
        self._down, self._loop = asyncio.Event(), asyncio.get_running_loop()
        settings = Settings(home=self._root / "home", http_port=0)
        settings.run_dir.mkdir(parents=True)
        settings.socket_dir.mkdir(parents=True, exist_ok=True)
        ingress = HAProxy(settings, tied=True)
        await ingress.open()
        await ingress.start()
        self.port = ingress.http_port
        path = self._root / "recorder.sock"
        server = await asyncio.start_unix_server(self.recorder.visit, path=str(path), limit=2**20)
        host = KNOWN.decode()
        await ingress.route(Endpoint(id="known", hosts=(host,), pool=POOL, timeout_s=5))
        await ingress.attach(POOL, "one", f"unix:{path}", 1000)
        self._up.set()
        await self._down.wait()
        await ingress.close()
        server.close()
        visits = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for visit in visits:
            visit.cancel()
        await asyncio.gather(*visits, return_exceptions=True)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._down.set)
        self._thread.join(60)


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """One HAProxy for all cases."""
    house = House(tmp_path_factory.mktemp("rules"))
    yield house
    house.close()


def exchange(port: int, case: Case) -> bytes:
    """Send bytes; return all bytes of the response."""
    pieces = case.sent if isinstance(case.sent, tuple) else (case.sent,)
    got = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError):
            for number, piece in enumerate(pieces):
                if number:
                    connection.settimeout(0.1)
                    with contextlib.suppress(TimeoutError):
                        got += connection.recv(65536)
                connection.sendall(piece.replace(b"HOST", KNOWN))
            connection.settimeout(10)
            while not complete(case, got):
                data = connection.recv(65536)
                if not data:
                    break
                got += data
                connection.settimeout(QUIET_S)
    return got


def complete(case: Case, got: bytes) -> bool:
    """Return whether the response is complete."""
    if is_h2(case):
        return bool(got) and status_h2(got) is not None
    return False


def is_h2(case: Case) -> bool:
    whole = b"".join(case.sent) if isinstance(case.sent, tuple) else case.sent
    return whole.startswith(b"PRI ")


def status_h2(got: bytes) -> int | None:
    """Return the status of stream 1, 0 if it was reset, or None if neither has arrived yet."""
    decoder, ends = Decoder(), None
    while len(got) >= 9:
        frame, length = Frame.parse_frame_header(memoryview(got[:9]))
        if len(got) < 9 + length:
            break
        frame.parse_body(memoryview(got[9 : 9 + length]))
        got = got[9 + length :]
        if isinstance(frame, HeadersFrame):
            return int(dict(decoder.decode(frame.data))[":status"])
        if isinstance(frame, RstStreamFrame | GoAwayFrame):
            ends = 0
        assert not isinstance(frame, DataFrame)
    return ends


def status_of(case: Case, got: bytes) -> int:
    """Return the first status that has arrived; 0 if there is none."""
    if is_h2(case):
        return status_h2(got) or 0 if not got.startswith(b"HTTP/1") else int(got[9:12])
    found = re.match(rb"HTTP/1\.[01] (\d{3}) ", got)
    return int(found[1]) if found else 0


@pytest.mark.parametrize("case", rules.EVERY, ids=lambda case: case.name)
def test_the_ingress_answers_as_the_rfcs_demand(house, case):
    before = len(house.recorder.seen)
    got = exchange(house.port, case)
    seen = house.recorder.seen[before:]

    assert status_of(case, got) in case.statuses, got[:300]
    if isinstance(case.seen, bool):
        assert case.seen == bool(seen), seen
    elif case.seen is not None:
        assert all(map(case.seen, seen)), seen
        assert seen or status_of(case, got) != 200
    if case.then is not None:
        assert case.then(got), got


def test_the_names_of_the_rules_are_their_own():
    assert len(rules.EVERY) == len({case.name for case in rules.EVERY})
    assert 100 <= len(rules.EVERY)
