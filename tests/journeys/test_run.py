"""`homeport run`: a script's local entrypoint, or one of its functions, as a user runs it."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap

import psutil
import pytest

from tests import trees
from tests.waiting import PATIENCE_S, wait_for

SCRIPT = """
    import pathlib, time, urllib.request
    import modal

    app = modal.App("runs")

    class OutOfStock(Exception):
        pass

    @app.function()
    def square(x: int):
        print("squaring", x)
        if x == 13:
            raise OutOfStock("no more")
        return x * x

    @app.cls()
    class Scale:
        factor: int = modal.parameter(default=2)

        @modal.method()
        def times(self, value: int):
            return str(value * self.factor)

        @modal.wsgi_app()
        def page(self):
            return lambda environ, start: [start("200 OK", []) and b""]

    @app.local_entrypoint()
    def main(count: int = 3, dry_run: bool = False):
        print(modal.is_local(), square.remote(5), list(square.map(range(count))), dry_run)
        with urllib.request.urlopen(Scale().page.get_web_url(), timeout=60) as answer:
            print(Scale(factor=7).times.remote(3), answer.status)

    @app.local_entrypoint()
    async def fails():
        await square.remote.aio(13)

    @app.local_entrypoint()
    def waits(until: str):
        try:
            square.remote(4)
            while not pathlib.Path(until).exists():
                time.sleep(0.05)
        finally:
            print("cleaned up")
"""
ONE = """
    import modal

    app = modal.App()

    @app.function()
    def square(x):
        return x * x

    @app.local_entrypoint()
    def main(count: int):
        print(list(square.map(range(count))))
"""
ALONE = """
    import modal

    app = modal.App()

    @app.local_entrypoint()
    async def main(*words):
        print(*words)
        raise SystemExit(len(words))
"""


@pytest.fixture
def path(write):
    """The script above."""
    return write(SCRIPT)


def test_an_entrypoint_gets_options_and_calls_functions_and_urls_of_its_own_session(terminal, path):
    done = terminal.run("run", f"{path}::main", "--count", "4", "--dry-run")

    assert "True 25 [0, 1, 4, 9] True\n21 200\n" == done.stdout
    assert "App completed" in done.stderr
    assert terminal.run("status", check=False).returncode == 1, "the server ended with the command"


def test_an_exception_is_shown_as_the_users_own_and_ends_with_1(terminal, path):
    done = terminal.run("run", f"{path}::fails", check=False)

    assert done.returncode == 1
    assert done.stdout == ""
    assert "in fails\n    await square.remote.aio(13)\nOutOfStock: no more" in done.stderr.replace(
        "script.OutOfStock", "OutOfStock"
    )
    assert "homeport/sdk" not in done.stderr
    assert "completed" not in done.stderr


def test_a_function_is_called_with_its_own_and_its_classs_options(terminal, path, tmp_path):
    result = tmp_path / "result"
    words = ["--factor", "5", "--value", "4"]
    terminal.run("run", "-q", "-w", result, f"{path}::Scale.times", *words)
    other = terminal.run("run", "-w", result, f"{path}::square", "--x", "2", check=False)

    assert result.read_text() == "20"
    assert other.returncode == 1
    assert "must return str or bytes when using `--write-result`; got int" in other.stderr


def test_ctrl_c_lets_the_script_clean_up_and_ends_its_app(terminal, path, tmp_path):
    command = terminal.start("run", f"{path}::waits", "--until", tmp_path / "never")
    command.wait_for("squaring 4")  # the container's log comes while it runs

    assert command.interrupt() == 1, command.output
    assert "cleaned up" in command.output
    assert "App aborted" in command.output
    assert "Traceback" not in command.output


def test_an_app_without_functions_runs_its_entrypoint_with_the_words_as_they_are(terminal, write):
    done = terminal.run("run", write(ALONE), "a", "--b", check=False)

    assert (done.stdout, done.returncode) == ("a --b\n", 2)


def test_help_and_wrong_options_start_no_server(terminal, path):
    told = terminal.run("run", f"{path}::main", "--help")
    wrong = terminal.run("run", f"{path}::main", "--count", "x", check=False)

    assert "--dry-run, --no-dry-run" in told.stdout
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "invalid int value: 'x'" in wrong.stderr
    assert [] == [path for path, text in trees.files(terminal.home).items() if text]


def test_a_script_may_come_from_standard_input_and_an_unknown_environment_is_refused(
    terminal, path
):
    text = textwrap.dedent(ONE)
    done = subprocess.run(
        [sys.executable, "-m", "homeport", "run", "-", "--count", "2"],
        env=terminal.environ,
        input=text,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    refused = terminal.run("run", "-e", "prod", f"{path}::main", check=False)

    assert "[0, 1]\n" == done.stdout, done.stderr
    assert 1 == refused.returncode
    assert "there is no environment `prod`" in refused.stderr
    assert "homeport environment create" in refused.stderr


def test_ctrl_c_at_any_moment_of_the_start_prints_no_traceback(terminal, write):
    """Each time a little later: while the command imports, while the script does, while it runs."""
    script = write("""
        import modal

        app = modal.App("busy")

        @app.function()
        def square(x: int):
            return x * x

        @app.local_entrypoint()
        def main():
            square.remote(5)
            while True:  # so that only the signal ends it
                pass
    """)
    for number in range(8):
        process = subprocess.Popen(
            [sys.executable, "-m", "homeport", "run", f"{script}::main"],
            env=terminal.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        # In its own time, so that a busy machine changes little. Before that, Python itself starts.
        began = 0.12 + 0.1 * number
        wait_for(lambda: _cpu_s(process.pid) > began, "the command to have come that far")
        os.killpg(process.pid, signal.SIGINT)
        output = process.communicate(timeout=PATIENCE_S)[0]

        assert "Traceback" not in output, f"after {began} s: {output}"
        assert process.returncode in (-signal.SIGINT, 130, 1), f"after {began} s: {output}"


def _cpu_s(pid: int) -> float:
    """Return the CPU seconds of a command, and of the process in which it runs the script."""
    command = psutil.Process(pid)
    seconds = 0.0
    for process in [command, *command.children()]:
        with contextlib.suppress(psutil.Error):
            if "homeport.control" not in process.cmdline():
                times = process.cpu_times()
                seconds += times.user + times.system
    return seconds
