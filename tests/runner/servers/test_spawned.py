"""What a container tells the server of attempts arrives, once and together, whatever fails."""

import asyncio
import json
import urllib.parse

import pytest

from homeport.contract import frames
from homeport.runner.servers import spawned
from homeport.runner.servers.spawned import Reports, Spawned
from homeport.wire import Answer
from tests.waiting import until, virtually

LARGE = b"x" * (spawned.TOGETHER_BYTES + 1)


def answered(body, status=200):
    if isinstance(body, int):
        body, status = b"", body
    answer = Answer()
    answer.feed(b"HTTP/1.1 %d x\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body)
    return answer


class Server:
    """A server on the wire: `release` lets it answer, and `answers` has the next ones, else all is well."""

    def __init__(self, monkeypatch):
        self.got: list[list[dict[str, str]]] = []  # by request
        self.bodies: list[bytes] = []
        self.answers: list[object] = []
        self.outcomes: list[object] = []  # that a container is told when it asks
        self.release = asyncio.Event()
        self.release.set()
        monkeypatch.setattr(spawned.wire, "ask_async", self._ask)

    async def _ask(self, _socket, request):
        if request.method == "GET":
            assert request.target == "/v1/spawned/fc-1/outcome?place=7"
            return answered(self.outcomes.pop(0))
        assert request.target == "/v1/spawned/reports"
        parts = frames.values(request.body)
        heads = [dict(urllib.parse.parse_qsl(head.decode())) for head in parts[::2]]
        self.got.append(heads)
        self.bodies += parts[1::2]
        await self.release.wait()
        found = self.answers.pop(0) if self.answers else [200] * len(heads)
        if isinstance(found, Exception):
            raise found
        if isinstance(found, int):
            return answered(b"", found)
        return answered(json.dumps({"statuses": found}).encode())

    @property
    def calls(self):
        return [[each["call"] for each in heads] for heads in self.got]


def told(reports, *calls, body=b""):
    return [asyncio.ensure_future(reports.tell(f"call={each}", body)) for each in calls]


def test_outcomes_that_come_during_a_request_go_together_in_the_next_one(monkeypatch):
    async def story():
        server, reports = Server(monkeypatch), Reports()
        server.release.clear()
        first = told(reports, "a")
        await until(lambda: server.got, "the first request")
        more = told(reports, "b", "c", "d")
        await asyncio.sleep(0)
        server.release.set()
        assert [200] * 4 == await asyncio.gather(*first, *more)
        assert [["a"], ["b", "c", "d"]] == server.calls
        assert [200] == await asyncio.gather(*told(reports, "e"))

    virtually(story())


@pytest.mark.parametrize(
    "trouble", [ConnectionResetError(), 503, 502, [200], ["?", "?"], ValueError("not HTTP")]
)
def test_outcomes_that_the_server_did_not_take_are_sent_again(monkeypatch, trouble):
    async def story():
        server, reports = Server(monkeypatch), Reports()
        server.answers = [trouble, trouble]
        assert [200, 200] == await asyncio.gather(*told(reports, "a", "b"))
        assert [["a", "b"]] * 3 == server.calls

    virtually(story())


def test_each_report_has_its_own_status(monkeypatch):
    async def story():
        server, reports = Server(monkeypatch), Reports()
        server.answers = [[409, 500, 200], [404], 401]
        assert [409, 404, 200] == await asyncio.gather(*told(reports, "a", "b", "c"))
        assert [["a", "b", "c"], ["b"]] == server.calls
        assert [401, 401] == await asyncio.gather(*told(reports, "d", "e"))

    virtually(story())


def test_the_others_do_not_wait_for_a_large_outcome(monkeypatch):
    async def story():
        server, reports = Server(monkeypatch), Reports()
        server.release.clear()
        large, small = told(reports, "large", body=LARGE), told(reports, "a", "b")
        await until(lambda: len(server.got) == 2, "both requests")
        server.release.set()
        await asyncio.gather(*large, *small)
        assert [["a", "b"], ["large"]] == sorted(server.calls)
        assert LARGE in server.bodies

    virtually(story())


def test_a_request_has_no_more_outcomes_than_there_is_room_for(monkeypatch):
    async def story():
        server, reports = Server(monkeypatch), Reports()
        half = b"x" * (spawned.TOGETHER_BYTES * 2 // 3)
        await asyncio.gather(*told(reports, "a", "b", body=half))
        many = [str(number) for number in range(spawned.TOGETHER + 1)]
        await asyncio.gather(*told(reports, *many))
        assert [1, 1, spawned.TOGETHER, 1] == [len(each) for each in server.calls]

    virtually(story())


def test_a_cancellation_does_not_lose_an_outcome(monkeypatch):
    async def story():
        server, reports = Server(monkeypatch), Reports()
        server.release.clear()
        server.answers = [ConnectionResetError()]
        (one,) = told(reports, "a")
        await until(lambda: server.got, "the request")
        one.cancel()
        await asyncio.sleep(0)
        one.cancel()
        server.release.set()
        assert 200 == await one
        assert [["a"], ["a"]] == server.calls

    virtually(story())


def test_an_attempt_that_arrives_twice_runs_once(monkeypatch):
    """As after the end of a connection: the server would say that the attempt is this container's."""

    async def story():
        server, reports = Server(monkeypatch), Reports()
        ran, go_on = [], asyncio.Event()

        async def work():
            ran.append(1)
            await go_on.wait()
            return "value", b"v"

        def attempt():
            one = Spawned("fc-1", "0", "0", timeout_s=60.0, reports=reports)
            return asyncio.ensure_future(one.run(work, "3.12", lambda: b"refused"))

        first = attempt()
        await until(lambda: ran, "the call")
        assert not await attempt()
        go_on.set()
        assert await first
        assert [1] == ran
        assert ["", "value"] == [heads[0].get("kind", "") for heads in server.got]
        server.answers = [[409]]
        assert not await attempt()  # it is over
        assert [1] == ran

    virtually(story())


def test_an_outcome_that_is_too_large_becomes_an_error(monkeypatch):
    async def story():
        server, reports = Server(monkeypatch), Reports()
        server.answers = [[200], 400]

        async def work():
            return "value", LARGE

        one = Spawned("fc-1", "0", "0", timeout_s=60.0, reports=reports)
        assert await one.run(work, "3.12", lambda: b"refused")
        assert ["", "value", "error"] == [heads[0].get("kind", "") for heads in server.got]
        assert b"refused" == server.bodies[-1]

    virtually(story())


@pytest.mark.parametrize("told", [404, frames.pack([b"cancelled", b"", b""])])
def test_an_attempt_without_a_connection_asks_for_its_own_input_alone(monkeypatch, told):
    """A call may have thousands of inputs, and after a kill of the server each attempt asks."""

    async def story():
        server, reports = Server(monkeypatch), Reports()
        server.outcomes = [503, frames.pack([]), told]
        begun, ended = [], []

        async def work():
            begun.append(1)
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(1)

        one = Spawned("fc-1", "7", "0", timeout_s=60.0, reports=reports)
        running = asyncio.ensure_future(one.run(work, "3.12", lambda: b""))
        await until(lambda: begun, "the call")
        running.cancel()
        assert await running
        assert [1] == ended
        assert 1 == len(server.got)  # nobody wants an outcome
        assert [] == server.outcomes

    virtually(story())
