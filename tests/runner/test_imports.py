"""Which imports are slow: real modules that sleep, in a fresh interpreter."""

import json
import subprocess
import sys
import textwrap

import pytest

PROGRAM = """
import json, sys, traceback
from homeport.runner.imports import ImportTimes
sys.path[:0] = [{source!r}, {installed!r}]
times = ImportTimes()
times.begin({source!r})
failure = ""
def script():
    global times, failure
    try:
        {text}
    except Exception:
        failure = traceback.format_exc()
times.time("script", script)
print(json.dumps([times.end(), failure]))
"""
SLEEP_MS = 50
SLEEP = f"import time; time.sleep({SLEEP_MS / 1000})\n"


@pytest.fixture
def timed(tmp_path):
    """Run a text with these modules installed, or (`~/…`) beside it; what was slow, and how it failed."""

    def timed(text: str, modules: dict[str, str]) -> tuple[dict[str, float], str]:
        folders = {"source": tmp_path / "source", "installed": tmp_path / "installed"}
        for folder in folders.values():
            folder.mkdir()
        for name, content in modules.items():
            beside = name.startswith("~/")
            path = folders["source" if beside else "installed"] / name.removeprefix("~/")
            path.parent.mkdir(exist_ok=True, parents=True)
            path.write_text(content)
        program = PROGRAM.format(text=text, **{k: str(v) for k, v in folders.items()})
        words = [sys.executable, "-c", program]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert 0 == done.returncode, done.stderr
        times, failure = json.loads(done.stdout)
        # On a busy machine a module that does not sleep may be slow too.
        return {name: ms for name, ms in times.items() if ms >= SLEEP_MS}, failure

    return timed


def test_a_module_has_what_it_imports_in_turn_and_the_slowest_comes_first(timed):
    times, _ = timed(
        "import outer, quick",
        {"outer.py": f"import inner\n{SLEEP}", "inner.py": SLEEP, "quick.py": ""},
    )

    assert ["script", "outer", "inner"] == list(times)
    assert times["outer"] >= times["inner"] + SLEEP_MS


def test_a_packages_own_modules_are_part_of_it_but_the_users_are_told_apart(timed):
    package = {"__init__.py": f"from . import part\n{SLEEP}", "part.py": f"import other\n{SLEEP}"}
    times, _ = timed(
        "import installed.sub, mine",
        {
            **{f"installed/{name}": text for name, text in package.items()},
            "installed/sub.py": SLEEP,
            "other.py": SLEEP,
            **{f"~/mine/{name}": text for name, text in package.items()},
        },
    )

    assert {"script", "installed.sub", "other", "mine", "mine.part"} == set(times)
    assert times["installed.sub"] >= 4 * SLEEP_MS


def test_a_module_is_timed_once_by_whatever_means_it_is_imported(timed):
    text = "import importlib; importlib.import_module('a'); from pack import b; import a, pack"
    times, _ = timed(text, {"a.py": SLEEP, "pack/__init__.py": "", "pack/b.py": SLEEP})

    assert {"script", "a", "pack.b"} == set(times)


def test_a_module_that_is_loaded_already_costs_nothing(timed):
    text = "import a; times.end(); times = ImportTimes(); times.begin('/'); import a"
    times, _ = timed(text, {"a.py": SLEEP})

    assert {} == times


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("import not_there", "ModuleNotFoundError"),
        ("def", "SyntaxError"),
        ("import inner", "ValueError"),
    ],
)
def test_a_failing_import_is_timed_and_its_traceback_is_as_without_us(timed, content, error):
    modules = {"bad.py": f"{SLEEP}{content}\n", "inner.py": "raise ValueError('deep')\n"}
    times, failure = timed("import bad", modules)

    assert error in failure
    assert ("bad" in times) is (error != "SyntaxError")
    assert "importlib" not in failure
    assert "homeport" not in failure
    frames = failure.count('  File "')
    assert {"SyntaxError": 2, "ValueError": 3}.get(error, 2) == frames


def test_other_threads_are_let_be_and_nothing_stays(tmp_path):
    program = textwrap.dedent(
        """
        import importlib._bootstrap as bootstrap, sys, threading
        from homeport.runner.imports import ImportTimes
        sys.path.insert(0, sys.argv[1])
        before = bootstrap._find_and_load
        times = ImportTimes()
        times.begin("/nowhere")
        thread = threading.Thread(target=__import__, args=("slow",))
        thread.start()
        thread.join()
        assert "slow" in sys.modules
        assert {} == times.end(), "a thread's import was timed"
        assert before is bootstrap._find_and_load
        """
    )
    (tmp_path / "slow.py").write_text(SLEEP)
    words = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)

    assert (0, "") == (done.returncode, done.stderr)


def test_a_package_that_lacks_a_part_is_not_called_missing(start):
    event = start(
        """
        import modal
        import json.nothing
        app = modal.App("a")

        @app.function()
        @modal.fastapi_endpoint()
        def hello():
            return 1
        """
    ).event()

    assert event.reason.endswith("ModuleNotFoundError: No module named 'json.nothing'")


def test_a_container_reports_its_packages_while_it_serves_and_at_its_end_those_of_its_requests(
    start,
):
    runner = start(
        """
        import modal
        app = modal.App("a")

        @app.function()
        @modal.fastapi_endpoint()
        def hello():
            import psutil
            return 1
        """
    ).ready()
    at_first = runner.event()
    runner.client.get("/")

    assert ("imported", True) == (at_first.kind, "fastapi" in at_first.modules)
    assert "psutil" not in at_first.modules
    assert 0 == runner.terminate()
    assert [("imported", True)] == [(e.kind, "psutil" in e.modules) for e in runner.events()]
