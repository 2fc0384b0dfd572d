"""The admission between the app server and the app, tested without these two."""

import asyncio
from dataclasses import dataclass

import pytest

from homeport.contract.container import StartOrder
from homeport.runner.servers.admission import CONNECTION, Admission, Method
from homeport.runner.servers.held import Held
from homeport.runner.servers.lifespan import Lifespan
from homeport.runner.servers.slots import Slots, Stay
from homeport.sdk import context
from tests.orders import order
from tests.waiting import turns, virtual


class Visit:
    """One request: the messages that the app receives and sends."""

    def __init__(self, *messages, headers=(), kind="http") -> None:
        self.connection = Connection()
        self.scope = {
            "type": kind,
            "method": "GET",
            "path": "/",
            "headers": list(headers),
            CONNECTION: self.connection,
        }
        if kind == "websocket":
            del self.scope["method"]
        self._messages = list(messages)
        self.sent = []

    async def receive(self):
        return self._messages.pop(0)

    async def send(self, message):
        self.sent.append(message)

    @property
    def status(self):
        return self.sent[0]["status"]

    @property
    def body(self):
        return b"".join(message.get("body", b"") for message in self.sent)


@dataclass
class Begun:
    """The part of `Serving` that admission uses."""

    order: StartOrder
    slots: Slots
    held: Held
    door: object = None
    ending: object = None


class Connection:
    """The app server's side of a request."""

    visit = None
    is_answered = is_open_ended = False
    cuts = ()

    def __init__(self):
        self.transport = self

    def cut(self, *, at_once):
        self.cuts = (*self.cuts, "at once" if at_once else "softly")

    def get_write_buffer_size(self):
        return 0

    def get_extra_info(self, _name):
        return None


def admission(app, says=None, **changes) -> Admission:
    methods = changes.pop("methods", {"only": Method(app, Lifespan(app))})
    told = order(**changes)
    says = says if says is not None else []
    return Admission(
        methods, Begun(told, Slots(told.function, None, lambda: None), Held(says.append))
    )


async def drink(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"drunk"})


GIB = bytes(2**26)


async def test_a_body_without_a_length_may_go_on_for_4_gib_and_no_longer():
    piece = {"type": "http.request", "body": GIB, "more_body": True}
    last = {"type": "http.request", "body": b"", "more_body": False}
    chunked = [(b"transfer-encoding", b"chunked")]
    full = Visit(*[piece] * 64, last, headers=chunked)
    over = Visit(*[piece] * 64, {**piece, "body": b"x"}, last, headers=chunked)
    for visit in (full, over):
        await admission(drink)(visit.scope, visit.receive, visit.send)

    assert (200, b"drunk") == (full.status, full.body)
    assert (413, b"homeport: the body is larger than 4 GiB") == (over.status, over.body)


async def test_an_app_that_makes_a_500_of_a_body_without_end_is_413_all_the_same():
    async def app(scope, receive, send):
        try:
            await drink(scope, receive, send)
        except Exception:
            await send({"type": "http.response.start", "status": 500, "headers": []})
            await send({"type": "http.response.body", "body": b"oops"})
            raise

    piece = {"type": "http.request", "body": GIB, "more_body": True}
    visit = Visit(*[piece] * 65, headers=[(b"transfer-encoding", b"chunked")])
    await admission(app)(visit.scope, visit.receive, visit.send)

    assert (413, b"homeport: the body is larger than 4 GiB") == (visit.status, visit.body)


async def test_there_are_never_more_requests_in_the_app_than_slots():
    inside, most = 0, 0

    async def app(scope, receive, send):
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await turns(1)
        inside -= 1
        await drink(scope, receive, send)

    door = admission(app, max_inputs=2)
    visits = [Visit({"type": "http.request"}) for _ in range(7)]
    await asyncio.gather(*(door(v.scope, v.receive, v.send) for v in visits))

    assert 2 == most
    assert {200} == {visit.status for visit in visits}


async def test_a_slot_that_was_given_to_a_request_whose_visitor_leaves_goes_to_the_next_one():
    slots = Slots(order(max_inputs=1).function, None, lambda: None)
    first, leaving, last = Stay(), Stay(), Stay()
    for stay in (first, leaving, last):
        slots.enter(stay)
    waits = [asyncio.create_task(slots.turn(stay)) for stay in (leaving, last)]
    await turns(2)

    slots.leave(first)
    waits[0].cancel()  # the slot is on its way to this one
    await asyncio.wait_for(waits[1], 60)

    assert (False, True) == (leaving.is_seated, last.is_seated)


async def test_the_header_of_the_ingress_chooses_the_method_and_is_not_shown():
    seen = []

    def app(name):
        async def run(scope, receive, send):
            seen.append((name, scope["headers"], context.current_input_id()))
            await drink(scope, receive, send)

        return run

    methods = {name: Method(app(name), Lifespan(app(name))) for name in ("a", "b")}
    headers = [(b"x-homeport-method", b"b"), (b"x-request-id", b"7")]
    chosen = Visit({"type": "http.request"}, headers=headers)
    wrong = Visit({"type": "http.request"}, headers=[(b"x-homeport-method", b"c")])
    for visit in (chosen, wrong):
        await admission(None, methods=methods)(visit.scope, visit.receive, visit.send)

    assert [("b", [(b"x-request-id", b"7")], "in-7")] == seen
    assert 404 == wrong.status


async def test_a_response_that_has_begun_is_cut_and_not_continued_when_time_is_up():
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        await asyncio.Event().wait()

    visit = Visit({"type": "http.request"})
    await admission(app, timeout_s=0.01)(visit.scope, visit.receive, visit.send)

    assert b"half" == visit.body  # the server closes a connection whose response is not complete


async def test_a_websocket_that_fails_before_it_is_accepted_is_refused():
    async def app(scope, receive, send):
        raise ValueError("no")

    visit = Visit({"type": "websocket.connect"}, kind="websocket")
    await admission(app)(visit.scope, visit.receive, visit.send)

    assert ["websocket.close"] == [message["type"] for message in visit.sent]


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize(
    "error", [ValueError("no"), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()]
)
async def test_any_error_of_an_app_is_a_500_or_a_cut_and_is_logged(begun, error, capsys):
    async def app(scope, receive, send):
        if begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise error

    visit = Visit({"type": "http.request"})
    await admission(app)(visit.scope, visit.receive, visit.send)

    assert (200 if begun else 500) == visit.status
    assert (("softly",) if begun else ()) == visit.connection.cuts
    assert type(error).__name__ in capsys.readouterr().err


HELLO = [(b"content-length", b"5")]


def answers(*messages):
    """Return an app that sends these messages and then works for a minute of the loop's time."""

    async def app(scope, receive, send):
        for message in messages:
            await send(message)
        await asyncio.sleep(60)

    return app


def start(status=200, headers=()):
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(data=b"", more=False):
    return {"type": "http.response.body", "body": data, "more_body": more}


@pytest.mark.parametrize(
    ("method", "messages", "at_once"),
    [
        ("GET", [start(), body(b"hello")], 1),
        ("GET", [start(), body(b"hel", more=True), body(b"lo", more=True), body()], 3),
        # The visitor has the whole response before the app returns.
        ("GET", [start(headers=HELLO), body(b"hello", more=True), body()], 1),
        ("GET", [start(303, [(b"Content-Length", b"0")]), body()], 0),
        ("GET", [start(204), body()], 0),
        ("HEAD", [start(headers=HELLO), body(b"hello")], 0),
    ],
)
@virtual
async def test_the_last_bytes_wait_until_the_node_knows_that_work_goes_on(
    method, messages, at_once
):
    said = []
    visit = Visit({"type": "http.request"})
    visit.scope["method"] = method
    door = admission(answers(*messages), said)
    going_on = asyncio.create_task(door(visit.scope, visit.receive, visit.send))
    await asyncio.sleep(0.010)
    before, held = len(visit.sent), list(said)
    door._held.confirmed(1)
    await asyncio.sleep(0.001)

    assert (at_once, [1]) == (before, held)
    assert messages == visit.sent
    await going_on
    assert [1, 0] == said


@virtual
async def test_the_last_bytes_go_after_a_moment_when_the_node_is_away():
    visit = Visit({"type": "http.request"})
    door = admission(answers(start(), body(b"hello")))
    going_on = asyncio.create_task(door(visit.scope, visit.receive, visit.send))
    await asyncio.sleep(0.040)
    before = len(visit.sent)
    await asyncio.sleep(0.030)

    assert (1, 2) == (before, len(visit.sent))
    await going_on


@virtual
async def test_work_that_ends_at_once_after_a_response_is_not_reported():
    async def soon(scope, receive, send):
        await send(start())
        await send(body(b"hello"))
        await asyncio.sleep(0.003)

    said = []
    for app in (drink, soon):
        visit = Visit({"type": "http.request"})
        await admission(app, said)(visit.scope, visit.receive, visit.send)
        assert 200 == visit.status

    assert [] == said


@virtual
async def test_work_after_the_response_keeps_its_slot_and_ends_with_its_time(capsys):
    visits = [Visit({"type": "http.request"}) for _ in range(2)]
    door = admission(answers(start(), body(b"hello")), timeout_s=10)
    runs = [asyncio.create_task(door(v.scope, v.receive, v.send)) for v in visits]
    await asyncio.sleep(9)
    before = [len(visit.sent) for visit in visits]
    await asyncio.gather(*runs)

    assert [2, 0] == before
    assert 10 <= asyncio.get_running_loop().time() < 12
    assert [200, 504] == [visit.status for visit in visits]
    assert 2 == capsys.readouterr().err.count("a request took longer than its timeout of 10 s")


@virtual
async def test_an_app_that_ignores_its_end_gives_its_slot_back_and_too_many_end_the_container():
    async def deaf(scope, receive, send):
        while True:
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                continue

    ends = []
    door = admission(deaf, timeout_s=1)
    door._slots._too_many_stuck = lambda: ends.append(asyncio.get_running_loop().time())
    visits = [Visit({"type": "http.request"}) for _ in range(2)]
    tasks = []
    for visit in visits:
        tasks.append(asyncio.create_task(door(visit.scope, visit.receive, visit.send)))
        await asyncio.sleep(2.5)

    assert [504, 504] == [visit.status for visit in visits]
    assert [4.5] == [round(at, 1) for at in ends]
    for task in tasks:
        task.get_coro().close()


@pytest.mark.parametrize(("code", "said"), [(1000, ""), (1001, ""), (1005, ""), (1006, "1006")])
async def test_a_websocket_that_was_closed_in_order_is_no_failure(code, said, capsys):
    from starlette.websockets import WebSocketDisconnect

    async def app(scope, receive, send):
        await send({"type": "websocket.accept"})
        raise WebSocketDisconnect((await receive())["code"])

    visit = Visit({"type": "websocket.disconnect", "code": code}, kind="websocket")
    await admission(app)(visit.scope, visit.receive, visit.send)
    told = capsys.readouterr().err

    assert "Traceback" not in told
    assert said in told
    assert bool(said) == bool(told)


async def test_a_refused_websocket_is_said(capsys):
    async def app(scope, receive, send):
        await send({"type": "websocket.close"})

    visit = Visit({"type": "websocket.connect"}, kind="websocket")
    await admission(app)(visit.scope, visit.receive, visit.send)

    assert "WEBSOCKET / was refused by the app (403)" in capsys.readouterr().err
