"""What stands between the app server and the app, without either."""

import asyncio

import pytest

from homeport.contract.container import ContainerSpec
from homeport.runner.admission import Aborted, Admission, Method
from homeport.runner.lifespan import Lifespan
from homeport.sdk import environment


def spec(**changes) -> ContainerSpec:
    told = dict.fromkeys(("id", "app", "function", "revision", "pool", "module", "qualname"), "x")
    return ContainerSpec(**{**told, **changes})


class Visit:
    """One request: what is received and what is sent."""

    def __init__(self, *messages, headers=(), kind="http") -> None:
        self.scope = {"type": kind, "method": "GET", "path": "/", "headers": list(headers)}
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


def admission(app, **changes) -> Admission:
    methods = changes.pop("methods", {"only": Method(app, Lifespan(app))})
    used_up = changes.pop("used_up", lambda: None)
    return Admission(spec(**changes), methods, shut=lambda: None, used_up=used_up)


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


async def test_never_more_inside_than_slots():
    inside, most = 0, 0

    async def app(scope, receive, send):
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0)
        inside -= 1
        await drink(scope, receive, send)

    door = admission(app, max_inputs=2)
    visits = [Visit({"type": "http.request"}) for _ in range(7)]
    await asyncio.gather(*(door(v.scope, v.receive, v.send) for v in visits))

    assert 2 == most
    assert {200} == {visit.status for visit in visits}


async def test_the_header_of_the_ingress_chooses_the_method_and_is_not_shown():
    seen = []

    def app(name):
        async def run(scope, receive, send):
            seen.append((name, scope["headers"], environment.current_input_id()))
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
async def test_an_exception_is_a_500_or_a_cut(begun):
    async def app(scope, receive, send):
        if begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ValueError("no")

    visit = Visit({"type": "http.request"})
    door = admission(app)
    if begun:
        with pytest.raises(Aborted):
            await door(visit.scope, visit.receive, visit.send)
    else:
        await door(visit.scope, visit.receive, visit.send)

    assert (200 if begun else 500) == visit.status
