"""A container reports that it runs, and what blocks its event loop."""

import os
import socket
import time

import pytest

from homeport.contract.pulse import BEAT_S, IDLE_BEAT_S, Pulse, Reader, create
from homeport.runner.servers.turns import Turns
from tests.waiting import wait_for

#: Shorter times than in the product.
SCRIPT = """
    import json, threading, time
    from homeport.runner.servers import turns
    turns.BEAT_S, turns.IDLE_BEAT_S, turns.HELD_UP_S = 0.2, 0.2, 0.5
    import modal
    app = modal.App("a")

    @app.function()
    @modal.asgi_app()
    def web():
        async def plain(scope, receive, send):
            assert scope["type"] == "http"
            if scope["path"] == "/blocks":
                blocks()
            names = [thread.name for thread in threading.enumerate()]
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": json.dumps(names).encode()})
        return plain

    def blocks():
        time.sleep(60)
"""


def test_the_pulse_beats_counts_requests_and_has_the_deadline_of_the_oldest(start):
    runner = start(SCRIPT, web={"web": "asgi_app"}, timeout_s=100.0).ready()
    wait_for(lambda: runner.pulse.read().turn, "the first turn")
    for _ in range(3):
        runner.client.get("/")
    # The last response has arrived before the runner has taken note of its end.
    idle = wait_for(lambda: (read := runner.pulse.read()).inside == 0 and read, "the end")
    wait_for(lambda: runner.pulse.read().beat > idle.beat, "another beat")
    wait_for(lambda: runner.pulse.read().turn > idle.turn, "another turn")
    idle = runner.pulse.read()

    assert (3, 0, 0.0) == (idle.requests, idle.inside, idle.deadline)


def test_a_container_has_one_thread_that_beats(start):
    runner = start(SCRIPT, web={"web": "asgi_app"}).ready()
    names = runner.client.get("/").json()

    assert 1 == sum(name.startswith("homeport") for name in names), names


def test_a_loop_that_stands_still_beats_on_and_says_where(start):
    runner = start(SCRIPT, web={"web": "asgi_app"}, timeout_s=1.0).ready()

    def is_late() -> bool:
        """Return whether its node may end it: the deadline is over, and it still beats."""
        reading = runner.pulse.read()
        return 0 < reading.deadline < reading.beat

    with socket.socket(socket.AF_UNIX) as visitor:
        visitor.connect(runner.door)
        visitor.sendall(b"GET /blocks HTTP/1.1\r\nHost: x\r\n\r\n")
        runner.wait_for("the event loop has stood still for")
        runner.wait_for("in blocks")
        wait_for(is_late, "the request's time to be up")
        assert 1 == runner.pulse.read().inside


def test_a_container_without_descriptors_says_that_it_cannot_let_anybody_in(start):
    import errno

    runner = start(
        SCRIPT.replace("blocks()\n", "__import__('resource').setrlimit(7, (8, 8))\n", 1),
        web={"web": "asgi_app"},
    ).ready()
    assert 200 == runner.client.get("/blocks").status_code
    with socket.socket(socket.AF_UNIX) as visitor:
        visitor.connect(runner.door)
        wait_for(lambda: runner.pulse.read().refused == errno.EMFILE, "the pulse to say why")


class _Loop:
    """A loop that only notes when its next timer is due."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def call_later(self, wait_s: float, _call) -> None:
        self.waits.append(wait_s)


def test_a_turn_is_later_without_a_request_inside_and_beats_for_the_thread():
    descriptor = create()
    page, reader = Pulse(descriptor), Reader(descriptor)
    turns = Turns(page)
    turns._loop = loop = _Loop()
    turns._turn()
    assert reader.read().beat == pytest.approx(reader.read().turn, abs=1.0)
    beat = reader.read().beat
    page.inside(1, time.monotonic() + 60.0)
    turns._turn()

    assert reader.read().beat == beat  # with a request inside, only the thread beats
    page.inside(0, None)
    calls: list[str] = []
    turns.add(lambda: calls.append("first") or True)
    turns.add(lambda: calls.append("second"))
    turns._turn()
    assert ["first", "second"] == calls
    assert [IDLE_BEAT_S, BEAT_S, BEAT_S] == loop.waits
    reader.close()
    os.close(descriptor)
