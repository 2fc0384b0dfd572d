"""What a container reports about each part of its start."""

import asyncio
import json
import os
import socket

import pytest

from homeport.contract.container import Event
from homeport.runner.report import Report
from tests.waiting import turns, until

SCRIPT = """
    import time
    import modal
    app = modal.App("a")
    time.sleep(0.1)

    @app.cls(enable_memory_snapshot=True)
    class Hello:
        @modal.enter(snap=True)
        def first(self):
            time.sleep(0.05)

        @modal.enter()
        def second(self):
            time.sleep(0.05)

        @modal.fastapi_endpoint()
        def hello(self):
            return 1
"""


def test_a_start_tells_how_long_its_import_and_its_hooks_took(start):
    runner = start(SCRIPT, web={"Hello.hello": "fastapi_endpoint"}, is_class=True)
    event = runner.event()

    assert "ready" == event.kind, event.reason
    assert ["imported", "entered", "listening"] == list(event.timings_ms)
    assert ["entered", "listening"] == runner.reached
    assert 100 <= event.timings_ms["imported"]
    assert 100 <= event.timings_ms["entered"]
    assert 100 <= event.imports_ms["script"]
    # Imports that a fresh interpreter needs for an answer are reported too.
    assert "fastapi" in event.imports_ms


def test_an_import_that_fails_is_told_with_its_time(start):
    event = start("import time\ntime.sleep(0.1)\nimport not_there\n").event()

    assert ("failed", "import") == (event.kind, event.phase)
    assert ["imported"] == list(event.timings_ms)
    assert 100 <= event.imports_ms["script"]


def test_phases_of_one_part_are_one_part():
    said: list[Event] = []
    report = Report(said.append)
    for phase in ("enter", "build", "lifespan"):
        report.begin(phase)
    report.ready()

    assert ["reached", "reached", "ready"] == [event.kind for event in said]
    assert ["entered", "listening"] == [event.phase for event in said[:2]]
    assert {"imported", "entered", "listening"} == set(said[-1].timings_ms)


@pytest.mark.parametrize("last", ["failed", "busy"])
def test_only_the_end_of_a_start_that_failed_is_the_last_message(last):
    node, container = socket.socketpair()
    report = Report(container.detach())
    report.begin("enter")
    report.again("a", ("m",))
    report.unlike("b", ("m",))
    report.ready()
    report.imported(("json",))
    report.held(1)
    report.cut()
    assert 1 == len(report.descriptors())
    getattr(report, last)("a\n reason")
    report.held(2)  # nothing is said any more

    with node:
        said = [json.loads(line) for line in node.makefile("rb")]
    assert ["reached", "again", "unlike", "ready", "imported", "held", "cut", last] == [
        each["kind"] for each in said
    ]
    assert [] == report.descriptors()


async def test_messages_of_the_node_arrive_also_in_parts_until_it_ends():
    node, container = socket.socketpair()
    container.setblocking(False)
    told: list[int] = []
    report = Report(container.detach())
    report.listen(told.append)
    with node:
        for part in (b'{"he', b'ld": 1}\n{"held"', b': 2}\n{"held": 3}\n'):
            node.sendall(part)
            await turns(3)
        await until(lambda: len(told) == 3, "all messages")
    (descriptor,) = report.descriptors()
    loop = asyncio.get_running_loop()
    await until(lambda: not loop._selector.get_map().get(descriptor), "the node's end to be seen")
    os.close(descriptor)

    assert [1, 2, 3] == told


def test_a_node_that_is_gone_stops_nobody():
    read, write = os.pipe()
    os.close(read)
    report = Report(write)
    report.begin("enter")
    report.ready()
    os.close(write)


def test_each_imported_module_is_told_once_and_nothing_without_a_new_one():
    events = []
    report = Report(events.append)
    report.imported(("json", "fastapi"))
    report.imported(("fastapi", "numpy"))
    report.imported(("numpy",))

    assert [("imported", ("json", "fastapi")), ("imported", ("numpy",))] == [
        (event.kind, event.modules) for event in events
    ]
