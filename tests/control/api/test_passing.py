"""Calls over the API by TCP, as a script on another machine makes them: each form, cancellation, and what is refused."""

import asyncio
import contextlib
import pickle
import socket
import threading

import pytest

from homeport.contract import calls as wire
from homeport.contract.scope import Scope
from homeport.control.api.bearer import Bearer
from homeport.control.api.calls import Calls
from homeport.control.api.listener import listening, tcp_socket
from homeport.control.api.router import Router
from homeport.control.fleet.owner import Owner
from homeport.sdk import context, exception
from homeport.sdk.objects import calling
from homeport.sdk.objects.function import Named
from homeport.sdk.objects.target import Target
from homeport.settings import Settings
from homeport.state import urls
from homeport.state.api_tokens import ApiTokens
from homeport.state.database import Database
from tests.functions import APP, served

TOKEN = "correct-horse"


@contextlib.contextmanager
def passed_on(settings: Settings, scopes: dict[str, Scope]):
    """Serve the API on a port, on a loop in a thread; yield its URL."""
    listener = tcp_socket("127.0.0.1", 0)
    database = Database(urls.of("", settings.home))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    tokens = ApiTokens(database)  # of the settings' token alone

    def holder(endpoint: str) -> Owner | None:
        return Owner.app(scopes[endpoint], APP) if endpoint in scopes else None

    noun = Calls(settings, lambda _scope: "k", holder)
    app = Router([noun], None, None)
    ready, loop, over = threading.Event(), asyncio.new_event_loop(), asyncio.Event()

    async def serve():
        async with listening(Bearer(app, tokens, first=TOKEN), listener):
            ready.set()
            await over.wait()
        await noun.close()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    assert ready.wait(60)
    try:
        yield url
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join(60)
        database.dispose()
        loop.close()


@pytest.fixture
def functions(tmp_path):
    """Functions that are reached over the API alone; `scopes` has the environments of their endpoints."""
    settings = Settings(home=tmp_path)
    settings.calls_socket.parent.mkdir(parents=True)
    scopes: dict[str, Scope] = {}
    with served(settings.calls_socket) as functions, passed_on(settings, scopes) as url:
        context.enter_calls(context.Reach(socket=url, app=APP, key="k", token=TOKEN))
        functions.url, functions.scopes = url, scopes
        yield functions


def test_no_token_calls_a_function_of_another_workspace_by_its_id(functions):
    ran = []

    def theirs():
        ran.append(1)

    def ours():
        return 2

    foreign, own = functions.add(theirs), functions.add(ours)
    for function, scope in ((foreign, Scope("acme")), (own, Scope(environment="staging"))):
        functions.scopes[function.target().endpoint] = scope

    assert 2 == own.remote()
    with pytest.raises(exception.NotFoundError):
        foreign.remote()
    assert [] == ran


def test_each_form_of_a_call_goes_over_the_api(functions):
    def add(a, b=1):
        return a + b

    def count(most):
        yield from range(most)

    def fails():
        raise KeyError("mine")

    total, counts = functions.add(add), functions.add(count, generator=True)
    functions.retries = "1.1.1000.1000"

    assert 3 == total.remote(2)
    assert 5 == asyncio.run(total.remote.aio(2, b=3))
    assert [2, 3, 4] == list(total.map([1, 2, 3]))
    assert [0, 1, 2] == list(counts.remote_gen(3))
    assert b"x" * 3_000_000 == total.remote(b"x" * 2_999_999, b=b"x")
    with pytest.raises(KeyError, match="mine"):
        functions.add(fails).remote()
    fails_twice = [fields[b"x-homeport-call"] for fields in functions.fields[-2:]]
    assert 1 == len({*fails_twice}), "the function's retries are passed on"
    assert not any(b"authorization" in fields for fields in functions.fields)


def test_a_caller_that_hangs_up_hangs_up_at_the_ingress(functions):
    began, left = threading.Event(), threading.Event()
    target = Target(app=APP, tag="waits", key="k")

    async def waits(_scope, receive, _send):
        while (message := await receive())["type"] != "http.disconnect":
            if not message["more_body"]:
                began.set()
        left.set()

    async def calls():
        call = asyncio.create_task(Named(target).remote.aio())
        await asyncio.to_thread(began.wait, 60)
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call

    functions.apps[target.endpoint] = waits
    asyncio.run(calls())

    assert left.wait(60)


def test_a_stream_that_is_closed_is_closed_at_the_ingress(functions):
    left = threading.Event()
    target = Target(app=APP, tag="counts", key="k")

    async def counts(_scope, receive, send):
        headers = [(b"x-homeport-outcome", b"stream"), (b"x-homeport-python", b"3.11")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        frame = wire.frame(wire.ITEM, pickle.dumps(7))
        await send({"type": "http.response.body", "body": frame, "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        left.set()

    functions.apps[target.endpoint] = counts
    values = Named(target).remote_gen()
    assert 7 == next(values)
    values.close()

    assert left.wait(60)


def test_refusals_are_the_ingresss_own_and_a_wrong_token_is_told(functions):
    def one():
        return 1

    handle = functions.add(one)
    for status, kind in (
        (404, exception.NotFoundError),
        (429, exception.ResourceExhaustedError),
        (504, exception.FunctionTimeoutError),
    ):
        functions.refusals.append((status, "homeport: no"))
        with pytest.raises(kind):
            handle.remote()
    functions.refusals.append((503, "homeport: nobody yet"))
    assert 1 == handle.remote(), "it is tried again"
    context.enter_calls(context.Reach(socket=functions.url, app=APP, key="k", token="wrong"))
    with pytest.raises(exception.AuthError, match="the token is wrong"):
        handle.remote()
    context.enter_calls(context.Reach(socket="http://127.0.0.1:1", app=APP, key="k", token=TOKEN))
    with pytest.raises(exception.ConnectionError, match=r"at http://127.0.0.1:1 does not answer"):
        handle.remote()


def test_an_answer_of_two_writes_does_not_wait_for_an_acknowledgement():
    with tcp_socket("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_without_an_ingress_the_answer_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(calling, "PATIENCE_S", 0.0)
    settings = Settings(home=tmp_path)
    with passed_on(settings, {}) as url:
        before = context.reach()
        context.enter_calls(context.Reach(socket=url, app=APP, key="k", token=TOKEN))
        try:
            with pytest.raises(exception.ConnectionError, match="the ingress does not answer"):
                Named(Target(app=APP, tag="f", key="k")).remote()
        finally:
            context._reach = before
