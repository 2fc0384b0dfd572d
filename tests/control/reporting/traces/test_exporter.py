"""The queue of requests before a receiver that is well, down, slow, or asks for patience."""

import logging
import threading

import pytest

from homeport.control.reporting.traces import exporter
from homeport.control.reporting.traces.exporter import Exporter, Known, Refused, Unavailable
from homeport.control.reporting.traces.spans import Server
from homeport.state.requests import Place
from homeport.state.scope import MAIN
from tests.recorded import words
from tests.waiting import wait_for

KNOWN = Known(
    place=lambda endpoint: Place(MAIN, "shop", "web") if endpoint == "web" else None,
    revision=lambda _container: "rv-1",
    versions=lambda: {"rv-1": 3},
    start=lambda _scope, _app, _container: None,
)


class Receiver:
    """What was sent; raises `failures` first."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.tries = 0
        self.got: list[str] = []
        self.open = threading.Event()
        self.open.set()

    def send(self, spans) -> None:
        self.tries += 1
        self.open.wait(30)
        if self.failures:
            raise self.failures.pop(0)
        self.got += [span.attributes["homeport.request"] for span in spans if span.is_server]


class Clock:
    """A clock that a test sets; threads see it when they look."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def started():
    """Start an exporter to a receiver."""
    opened = []

    def started(receiver: Receiver, clock: Clock | None = None) -> Exporter:
        server = Server(domain="localhost", scheme="http", port=80)
        opened.append(Exporter(receiver.send, lambda: server, clock=clock or Clock()))
        return opened[-1]

    yield started
    for each in opened:
        each.close(5)
        assert not each._thread.is_alive()


def lines(*ids: str, trace: str = "1", **more: str) -> list[list[str]]:
    return [words(id=each, trace=trace, **more) for each in ids]


def test_sampled_requests_of_known_endpoints_are_sent(started):
    receiver = Receiver()
    exporter = started(receiver)
    exporter.add(lines("a"), KNOWN)
    exporter.add(lines("b", trace="0") + lines("c", trace="-"), KNOWN)
    exporter.add(lines("d", endpoint="gone"), KNOWN)
    trace = f"{'a' * 32}-{'b' * 16}"
    exporter.add(lines("e", trace=f"{trace}-00") + lines("f", trace=f"{trace}-01"), KNOWN)

    wait_for(lambda: len(receiver.got) == 2, "two requests")
    assert ["a", "f"] == receiver.got


def test_spans_that_a_receiver_does_not_take_now_are_sent_later_and_logged_once(started, caplog):
    clock, receiver = Clock(), Receiver(Unavailable("down"), Unavailable("down"))
    exporter = started(receiver, clock)
    exporter.add(lines("a"), KNOWN)
    wait_for(lambda: receiver.tries == 1, "a try")
    for tries in (2, 3):
        wait_for(lambda: exporter._resume_at > clock.now, "a pause")
        clock.now = exporter._resume_at
        exporter.add(lines(f"{tries}"), KNOWN)
        wait_for(lambda tries=tries: receiver.tries >= tries, "another try")
    wait_for(lambda: len(receiver.got) == 3, "all of them")

    assert ["a", "2", "3"] == receiver.got
    wait_for(lambda: len(caplog.records) == 2, "the news")
    assert "down" in caplog.records[0].message
    assert "again; 0 were lost" in caplog.records[1].message


def test_pauses_grow_and_a_receiver_may_ask_for_one(started):
    clock = Clock()
    receiver = Receiver(*(Unavailable("down") for _ in range(3)), Unavailable("busy", 120.0))
    exporter = started(receiver, clock)
    pauses = []
    exporter.add(lines("a"), KNOWN)
    for tries in range(1, 5):
        wait_for(lambda: exporter._resume_at > clock.now, "a pause")
        pauses.append(exporter._resume_at - clock.now)
        assert tries == receiver.tries
        clock.now = exporter._resume_at
        exporter.add(lines(f"{tries}"), KNOWN)

    assert [1.0, 2.0, 4.0, 120.0] == pauses
    wait_for(lambda: len(receiver.got) == 5, "all of them")


def test_a_queue_that_is_full_loses_the_oldest(started, monkeypatch, caplog):
    monkeypatch.setattr(exporter, "QUEUED", 3)
    monkeypatch.setattr(exporter, "AT_ONCE", 1)
    receiver = Receiver()
    receiver.open.clear()
    made = started(receiver)
    made.add(lines("a"), KNOWN)
    wait_for(lambda: receiver.tries == 1, "a try")
    made.add(lines(*"bcdef"), KNOWN)
    receiver.open.set()

    wait_for(lambda: len(receiver.got) == 4, "the rest")
    assert list("adef") == receiver.got
    wait_for(lambda: caplog.records, "the news")
    assert "2 requests were not exported" in caplog.records[0].message


def test_spans_that_a_receiver_refuses_are_not_sent_again(started, caplog):
    receiver = Receiver(Refused("400"), Refused("400"))
    exporter = started(receiver)
    for number, each in enumerate("abc", 1):
        exporter.add(lines(each), KNOWN)
        wait_for(lambda number=number: receiver.tries == number, "a try")

    wait_for(lambda: receiver.got, "the third")
    assert ["c"] == receiver.got
    wait_for(lambda: len(caplog.records) == 2, "the news")
    assert "2 were lost" in caplog.records[1].message


def test_a_fault_of_ours_does_not_end_it(started, caplog):
    receiver = Receiver(ValueError("ours"), ValueError("ours"))
    exporter = started(receiver)
    for number, each in enumerate("abc", 1):
        exporter.add(lines(each), KNOWN)
        wait_for(lambda number=number: receiver.tries == number, "a try")

    wait_for(lambda: receiver.got, "the third")
    assert 1 == sum(record.exc_info is not None for record in caplog.records)


def test_the_end_sends_what_waits(started):
    receiver = Receiver(Unavailable("down"))
    exporter = started(receiver)
    exporter.add(lines("a"), KNOWN)
    wait_for(lambda: exporter._resume_at > 0, "a pause")
    exporter.close(30)

    assert ["a"] == receiver.got


def test_the_end_waits_a_bounded_time(caplog):
    receiver = Receiver()
    receiver.open.clear()
    server = Server(domain="localhost", scheme="http", port=80)
    exporter = Exporter(receiver.send, lambda: server)
    exporter.add(lines("a"), KNOWN)
    wait_for(lambda: receiver.tries == 1, "a try")
    exporter.add(lines("b"), KNOWN)
    with caplog.at_level(logging.WARNING):
        exporter.close(0.05)

    assert "1 requests were not exported" in caplog.text
    receiver.open.set()
    exporter._thread.join(30)
