"""What a container reports about each part of its start."""

import os

from homeport.contract.container import Event
from homeport.runner.report import Report

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
