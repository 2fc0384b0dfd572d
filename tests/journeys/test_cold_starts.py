"""`homeport app cold-starts` names the slow import and the slow hook."""

import time

import pytest

from tests.waiting import wait_for

APP = """
    import time

    import modal
    import heavy

    app = modal.App("slow")

    @app.cls()
    class Model:
        @modal.enter()
        def load(self):
            time.sleep(0.45)

        @modal.fastapi_endpoint()
        def ask(self):
            time.sleep(0.05)
            return "ok"

    @app.cls()
    class Nobody:
        size: int = modal.parameter()

        @modal.fastapi_endpoint()
        def never(self):
            return "ok"
"""


def test_a_slow_import_and_a_slow_hook_are_found_by_name_in_their_parts(terminal, write, visitor):
    write("import time\ntime.sleep(0.3)\n", "heavy.py")
    url = terminal.deploy(write(APP))["Model.ask"]
    (trial,) = terminal.json("app", "cold-starts", "slow")
    (container,) = terminal.json("container", "list")
    terminal.run("container", "stop", container["id"], "-y")
    wait_for(lambda: not terminal.containers(), "no container")
    began = time.monotonic()
    visitor.get(url)
    measured_ms = (time.monotonic() - began) * 1000

    def answered():
        starts = terminal.json("app", "cold-starts", "slow", "--function", "Model.*", "-n", "1")
        return starts[0] if "first_byte" in starts[0]["timings_ms"] else None

    start = wait_for(answered, "the first byte's time")
    parts = start["timings_ms"]
    assert container["id"] == trial["container"] != start["container"]
    assert ("slow", "Model.*", "", "") == tuple(
        start[key] for key in ("app", "function", "failed", "why_fresh")
    )
    assert "forked" == start["origin"]
    assert "heavy" in start["imports_ms"]
    assert 300 <= start["imports_ms"]["heavy"] <= parts["imported"]
    assert 450 <= parts["entered"] <= measured_ms - 350
    assert 300 <= parts["imported"] <= measured_ms - 500
    assert 49 <= parts["first_byte"]
    assert list(parts) == [
        "parked", "scheduled", "forked", "imported", "entered", "listening", "attached",
        "first_byte",
    ]  # fmt: skip
    assert 800 <= start["total_ms"] <= measured_ms + 1  # HAProxy counts whole milliseconds

    chart = terminal.run("app", "cold-starts", "slow").stdout
    assert "heavy" in chart
    assert f"{start['container']}  forked" in chart
    nothing = terminal.run("app", "cold-starts", "slow", "--function", "Nobody.*")
    assert ("", "no container of `Nobody.*` of `slow` has started yet\n") == (
        nothing.stdout,
        nothing.stderr,
    )
    unknown = terminal.run("app", "cold-starts", "fast", check=False)
    assert 1 == unknown.returncode
    assert "No App with name 'fast' found." in unknown.stderr
    terminal.run("down")
    terminal.run("up")
    assert start in terminal.json("app", "cold-starts", "slow")


BROKEN = """
    import time

    import modal

    app = modal.App("broken")

    @app.cls(enable_memory_snapshot=SNAPSHOT)
    class Model:
        @modal.enter(snap=SNAPSHOT)
        def load(self):
            time.sleep(0.3)
            raise ValueError("no weights")

        @modal.fastapi_endpoint()
        def ask(self):
            return "ok"
"""


def test_a_start_that_failed_has_its_reason_and_the_parts_that_it_reached(terminal, write):
    for number, snapshot in enumerate(("False", "True")):
        script = write(BROKEN.replace("SNAPSHOT", snapshot), f"broken{number}.py")
        serving = terminal.serve(script)
        start = wait_for(lambda: terminal.json("app", "cold-starts", "broken"), "a start")[-1]

        assert "enter failed: ValueError: no weights" == start["failed"]
        assert 300 <= start["timings_ms"]["entered"]
        assert "listening" not in start["timings_ms"]
        assert "failed(1)" in terminal.run("app", "cold-starts", "broken").stdout
        serving.interrupt()


@pytest.mark.parametrize("user", ["terminal", "ordinary"])
def test_modules_that_the_script_imports_are_loaded_before_a_later_container_starts(
    user, request, visitor
):
    """Whatever the place of the user's Python, which may be below the home: /root is the script's directory, too."""
    terminal = request.getfixturevalue(user)
    script = terminal.home.parent / "app.py"
    script.write_text(
        "import modal, sqlalchemy\n"
        "app = modal.App('early')\n"
        "@app.function(scaledown_window=2)\n"
        "@modal.fastapi_endpoint()\n"
        "def f():\n"
        "    from homeport.sdk.preload import loaded\n"
        "    return 'sqlalchemy' in loaded.handed\n"
    )
    url = terminal.deploy(script)["f"]

    def is_there_before():
        wait_for(lambda: not terminal.containers(), "no container")
        return visitor.get(url).json()

    assert "sqlalchemy" in terminal.json("app", "cold-starts", "early")[0]["imports_ms"]
    wait_for(is_there_before, "a zygote that has imported it")
