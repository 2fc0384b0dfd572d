"""Functions call functions: from a web function, from a script, with values, errors and streams of every kind."""

import subprocess
import sys

import pytest

from homeport.contract.calls import endpoint_id
from tests.journeys.conftest import PATIENCE_S
from tests.waiting import wait_for

SCRIPT = """
    import asyncio
    import os
    import modal

    app = modal.App("calls")
    class OutOfStock(Exception):
        pass

    @app.function()
    def add(a, b=1):
        return a + b

    @app.function()
    async def whoami():
        return os.getpid(), modal.current_input_id(), modal.current_function_call_id()

    @app.function()
    def fails(kind):
        try:
            {}["missing"]
        except KeyError as error:
            raise {"mine": OutOfStock, "plain": ValueError}[kind]("no more") from error

    @app.function()
    def count(to):
        for number in range(to):
            yield number
        if to > 5:
            raise OutOfStock("too far")

    @app.cls()
    class Scale:
        factor: int = modal.parameter(default=2)

        @modal.enter()
        def begin(self):
            self.began = self.factor * 100

        @modal.method()
        def times(self, value):
            return value * self.factor, self.began

        @modal.method()
        async def each(self, values):
            for value in values:
                yield value * self.factor

        @modal.fastapi_endpoint()
        def shown(self):
            return self.factor

    @app.function()
    @modal.asgi_app()
    def web():
        from fastapi import FastAPI
        from fastapi.responses import StreamingResponse
        api = FastAPI()

        @api.get("/sync")
        def sync():
            return [add.remote(1), add.remote(2, b=5), add.local(3), Scale().times.remote(4)]

        @api.get("/aio")
        async def aio():
            ids = await whoami.remote.aio()
            return [await add.remote.aio(1), await Scale(factor=7).times.remote.aio(3), ids]

        @api.get("/fails/{kind}")
        def failing(kind):
            try:
                fails.remote(kind)
            except (OutOfStock, ValueError) as error:
                causes = []
                while error is not None:
                    causes.append([type(error).__name__, str(error)])
                    error = error.__cause__
                return causes

        @api.get("/stream")
        async def stream():
            async def items():
                async for number in count.remote_gen.aio(3):
                    yield f"{number};"
                async for number in Scale(factor=3).each.remote_gen.aio([1, 2]):
                    yield f"{number};"
            return StreamingResponse(items())

        @api.get("/wrong")
        def wrong():
            told = []
            for call in (
                lambda: count.remote(1),
                lambda: list(add.remote_gen(1)),
                lambda: modal.Function.from_name("calls", "count").remote(1),
                lambda: modal.Function.from_name("nobody", "f").remote(1),
                lambda: modal.Function.from_name("calls", "web").remote(1),
                lambda: Scale(factor="x").times.remote(1),
                lambda: modal.Cls.from_name("calls", "Scale")(factor="x").times.remote(1),
                lambda: add.remote(lambda: 1),
            ):
                try:
                    told.append(call())
                except Exception as error:
                    told.append(f"{type(error).__name__}: {error}")
            return told

        @api.get("/broken-stream")
        def broken():
            seen = []
            try:
                for number in count.remote_gen(7):
                    seen.append(number)
            except OutOfStock as error:
                return [seen, str(error)]
        return api
"""


@pytest.fixture
def urls(terminal, write):
    """The app above, deployed: tag -> URL."""
    return terminal.deploy(write(SCRIPT))


@pytest.fixture
def calls(urls, visitor):
    """Answers of its web function, by path."""
    return lambda path: visitor.get(f"{urls['web']}{path}")


def test_a_web_function_calls_functions_of_its_app(calls):
    assert [2, 7, 4, [8, 200]] == calls("/sync").json()

    two, scaled, (pid, input_id, call_id) = calls("/aio").json()

    assert (2, [21, 700]) == (two, scaled)
    assert pid
    assert input_id.startswith("in-")
    assert call_id == input_id.replace("in-", "fc-")


def test_exceptions_keep_their_type_and_bring_their_causes_and_the_remote_traceback(calls):
    mine, cause, remote = calls("/fails/mine").json()

    assert (["OutOfStock", "no more"], ["KeyError", "'missing'"]) == (mine, cause)
    assert "RemoteTraceback" == remote[0]
    assert "in fails" in remote[1]
    assert "direct cause" in remote[1]
    assert "ValueError" == calls("/fails/plain").json()[0][0]


def test_generators_stream_and_fail_after_what_they_have_yielded(calls):
    assert "0;1;2;3;6;" == calls("/stream").text
    assert [[0, 1, 2, 3, 4, 5, 6], "too far"] == calls("/broken-stream").json()


def test_a_wrong_call_says_what_is_wrong(calls):
    told = calls("/wrong").json()

    for text, wanted in zip(
        told,
        (
            "InvalidError: A generator function cannot be called with `.remote",
            "InvalidError: A non-generator function cannot be called with `.remote_gen",
            "InvalidError: A generator function cannot be called with `.remote",
            "NotFoundError: Lookup failed for Function 'f' from the 'nobody' app",
            "NotFoundError: Lookup failed for Function 'web' from the 'calls' app",
            "TypeError: Expected int, got str",
            "InvalidError: `Scale.times`: class parameter `factor` must be int, not 'x'",
            "TypeError: unsupported operand",
        ),
        strict=True,
    ):
        assert text.startswith(wanted)


def test_a_script_of_this_machine_calls_deployed_functions(calls, terminal, tmp_path):
    caller = tmp_path / "caller.py"
    caller.write_text(
        "import asyncio, homeport as modal\n"
        "class Odd(Exception): pass\n"
        "add = modal.Function.from_name('calls', 'add')\n"
        "print(add.remote(1), asyncio.run(add.remote.aio(2)))\n"
        "Scale = modal.Cls.from_name('calls', 'Scale')\n"
        "print(*Scale(factor=5).times.remote(2), *Scale().each.remote_gen([1]))\n"
        "print(len(add.remote(b'x' * 9_000_000, b'y')))\n"
    )
    done = subprocess.run(
        [sys.executable, caller],
        env=terminal.environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ("2 3\n10 500 2\n9000001\n", 0) == (done.stdout, done.returncode), done.stderr

    terminal.run("down")
    done = subprocess.run(
        [sys.executable, caller],
        env=terminal.environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "ConnectionError: no server answers at" in done.stderr


def test_apps_are_shown_with_their_functions_and_a_visitor_cannot_call_them(
    urls, terminal, visitor
):
    status = terminal.status()
    (app,) = status["apps"]
    tags = {endpoint["tag"]: endpoint["url"] for endpoint in app["endpoints"]}

    assert {"add", "whoami", "fails", "count", "Scale.times", "Scale.each"} == {
        tag for tag, url in tags.items() if not url
    }
    assert "by .remote()" in terminal.run("status").stdout

    key = terminal.ask("/v1/environment")["key"]
    for tag in ("web", "Scale.shown"):
        fields = {"X-Homeport-Call": endpoint_id("calls", "add", key=key)}
        answer = visitor.post(urls[tag], content=b"{}", headers=fields)
        assert answer.status_code in (404, 405)
        assert "x-homeport-outcome" not in answer.headers


SECOND = """
    import asyncio
    import os
    import time
    import modal

    app = modal.App("second")

    @app.function()
    @modal.batched(max_batch_size=4, wait_ms=100)
    def sizes(items):
        return [len(items)] * len(items)

    @app.function(timeout=1, retries=modal.Retries(max_retries=1, initial_delay=0.0))
    def slow():
        print("one try", flush=True)
        time.sleep(30)

    @app.function()
    def dies():
        os._exit(3)

    @app.function()
    async def waits():
        try:
            print("it waits", flush=True)
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            print("it is cancelled", flush=True)
            raise

    @app.function()
    def loops():
        try:
            print("it loops", flush=True)
            while True:
                time.sleep(0.01)
        except modal.exception.InputCancellation:
            print("it stops", flush=True)
            raise

    @app.function()
    def endless():
        try:
            while True:
                yield b"x"
        finally:
            print("it ends", flush=True)

    @app.function(max_containers=1)
    def mine(more):
        return more and mine.remote(more - 1)

    @app.function()
    async def asks(name):
        await globals()[name].remote.aio()
"""


def test_a_call_ends_by_its_timeout_by_its_containers_end_or_by_its_caller(
    terminal, write, tmp_path
):
    """A timeout, a container that dies, a caller that goes; and what a function has to know of itself."""
    terminal.run("deploy", write(SECOND))
    caller = tmp_path / "caller.py"
    caller.write_text(
        "import sys, homeport as modal\n"
        "f = modal.Function.from_name('second', sys.argv[1])\n"
        "try:\n"
        "    print(eval(sys.argv[2]))\n"
        "except Exception as error:\n"
        "    print(type(error).__name__)\n"
    )

    def call(name: str, text: str = "f.remote()") -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, caller, name, text],
            env=terminal.environ,
            stdout=subprocess.PIPE,
            text=True,
        )

    def told(name: str, text: str = "f.remote()") -> str:
        with call(name, text) as process:
            return process.communicate(timeout=PATIENCE_S)[0].strip()

    def log(*words: str) -> bool:
        lines = terminal.run("app", "logs", "second").stdout
        return all(word in lines for word in words)

    assert "[4, 4, 4, 4]" == told("sizes", "list(f.map(range(4)))")
    assert "FunctionTimeoutError" == told("slow")
    assert 2 == terminal.log("second", "one try", "one try").count("one try")
    assert "InternalFailure" == told("dies")
    assert "b'x'" == told("endless", "next(f.remote_gen())")
    wait_for(lambda: log("it ends"), "the generator's end")
    settings = "f.update_autoscaler(max_containers=3, scaledown_window=60).max_containers"
    assert "3" == told("sizes", settings)
    assert "0" == told("sizes", "f.get_current_stats().backlog")

    # The caller of `asks` goes, so `asks` is cancelled, and with it what it waits for.
    for name, begun, ended in (
        ("waits", "it waits", "it is cancelled"),
        ("loops", "it loops", "it stops"),
    ):
        with call("asks", f"f.remote({name!r})") as process:
            wait_for(lambda begun=begun: log(begun), begun)
            process.kill()
        wait_for(lambda ended=ended: log(ended), ended)
    with call("mine", "f.remote(1)") as process:
        wait_for(lambda: log("`mine` waits for itself"), "the warning")
        process.kill()
