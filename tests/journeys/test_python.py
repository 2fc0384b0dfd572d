"""Apps and calls from plain Python, without a command: `app.run()`, `app.deploy()`, `from_name`, here and from another machine."""

import json
import signal
import subprocess
import sys

import pytest

from tests.journeys.conftest import Command
from tests.ports import free_port
from tests.waiting import PATIENCE_S, wait_for

SHOP = """
    import json, sys
    import modal

    app = modal.App("shop")
    other = modal.App()

    class OutOfStock(Exception):
        pass

    class Item:
        def __init__(self, name):
            self.name = name

    @app.function()
    def price(item):
        print("asked for", item if isinstance(item, str) else item.name)
        if item == "unicorn":
            raise OutOfStock(item)
        assert isinstance(item, (str, Item)), type(item)
        return len(item if isinstance(item, str) else item.name)

    @app.function()
    def letters(word):
        yield from word

    @app.cls()
    class Discount:
        percent: int = modal.parameter(default=10)

        @modal.method()
        def of(self, total):
            return total * (100 - self.percent) // 100

    @app.function()
    @modal.fastapi_endpoint()
    def web():
        return "hello"

    @other.function()
    def double(x):
        return 2 * x
"""
RUNS = (
    SHOP
    + """
    def outside():
        try:
            price.remote("lamp")
        except modal.exception.ExecutionError as error:
            return str(error)

    def main():
        before = outside()
        with modal.enable_output(), app.run():
            found = [price.remote("lamp"), price.remote(Item("chair")), list(price.map(["a", "bb"]))]
            found.append(Discount(percent=50).of.remote(10))
            found.append(price.spawn("spawned").get())
            with other.run():
                found.append(double.remote(price.remote("abc")))
            try:
                price.remote("unicorn")
            except OutOfStock as error:
                found.append(f"sold out: {error}")
            try:
                app.run().__enter__()
            except modal.exception.InvalidError as error:
                found.append(str(error).splitlines()[0])
            url = web.get_web_url()
        print(json.dumps({"found": found, "url": url, "before": before, "after": outside()}))

    if __name__ == "__main__":
        main()
"""
)
ASYNC = (
    SHOP
    + """
    import asyncio

    async def main():
        async with app.run() as same:
            assert same is app
            print(await price.remote.aio("lamp"), [x async for x in letters.remote_gen.aio("ab")])
            raise KeyError("mine")

    if __name__ == "__main__":
        asyncio.run(main())
"""
)
WAITS = (
    SHOP
    + """
    import time

    if __name__ == "__main__":
        with modal.enable_output(), app.run():
            try:
                print(price.remote("lamp"), flush=True)
                while True:
                    time.sleep(600)
            finally:
                print("cleaned up", flush=True)
        print("goes on", flush=True)
"""
)
DEPLOYS = (
    SHOP
    + """
    if __name__ == "__main__":
        app.deploy(name="store")
        try:
            app.deploy(strategy="sideways")
        except modal.exception.InvalidError as error:
            print(error)
"""
)
CALLS = """
    import asyncio, json
    import homeport as modal

    price = modal.Function.from_name("store", "price")
    letters = modal.Function.from_name("store", "letters")
    Discount = modal.Cls.from_name("store", "Discount")

    async def at_once():
        one = await price.remote.aio("lamp")
        return [one, [x async for x in letters.remote_gen.aio("xyz")], [x async for x in price.map.aio(["a", "bb"])]]

    call = price.spawn("later")
    again = modal.FunctionCall.from_id(call.object_id)
    with modal.Dict.ephemeral() as d, modal.Queue.ephemeral() as q:
        d["a"] = 1
        q.put("x")
        kept = [d["a"], q.get()]
    large = price.remote("x" * 3_000_000)
    try:
        price.remote("unicorn")
    except Exception as error:
        raised = str(error)
    try:
        modal.Function.from_name("store", "nothing").remote()
    except modal.exception.NotFoundError as error:
        missing = str(error)
    print(json.dumps([
        price.remote("lamp"), list(price.map(["a", "bb"])), list(letters.remote_gen("xyz")),
        Discount(percent=25).of.remote(100), again.get(), asyncio.run(at_once()), kept, large, raised, missing,
    ]))
"""
CALLED = [
    4, [1, 2], ["x", "y", "z"], 75, 5, [4, ["x", "y", "z"], [1, 2]], [1, "x"], 3_000_000,
]  # fmt: skip
DETACHED = """
    import modal

    app = modal.App("detached")
    gate = modal.Queue.from_name("gate", create_if_missing=True)

    @app.function()
    def waits(name):
        gate.put("inside", partition=name)
        return gate.get(timeout=600)

    @app.local_entrypoint()
    def main():
        call = waits.spawn("one")
        gate.get(timeout=600, partition="one")
        print(call.object_id)
"""


def python(terminal, path, **environ):
    """Run a script by Python itself."""
    return subprocess.run(
        [sys.executable, path],
        env={**terminal.environ, **environ},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def test_a_script_runs_its_app_and_the_server_ends_with_the_block(terminal, write):
    done = python(terminal, write(RUNS, "my_shop.py"))

    assert 0 == done.returncode, done.stderr
    told = json.loads(done.stdout)
    found = [4, 5, [1, 2], 5, 7, 6, "sold out: unicorn"]
    assert [*found, "App is already running and can't be started again."] == told["found"]
    assert "-shop-web-dev." in told["url"]
    assert "not running. Call it inside `with app.run():`" in told["before"] == told["after"]
    assert "asked for lamp" in done.stderr
    assert "✓ App completed." in done.stderr
    assert 1 == terminal.run("status", check=False).returncode, "no server is left"


def test_an_exception_leaves_an_async_block_as_it_is(terminal, write):
    done = python(terminal, write(ASYNC))

    assert 1 == done.returncode
    assert "4 ['a', 'b']\n" == done.stdout
    assert done.stderr.endswith("KeyError: 'mine'\n")
    assert "asked for" not in done.stderr, "without enable_output nothing is shown"
    assert 1 == terminal.run("status", check=False).returncode


def test_ctrl_c_ends_the_block_and_the_script_continues(terminal, write):
    process = subprocess.Popen(
        [sys.executable, write(WAITS)],
        env=terminal.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    script = Command(process)
    script.wait_for("^4$")
    process.send_signal(signal.SIGINT)

    assert 0 == script.end()
    process.stdout.close()
    for line in ("cleaned up", "✓ App aborted.", "goes on"):
        script.wait_for(line)
    assert "Traceback" not in script.output
    assert 1 == terminal.run("status", check=False).returncode


@pytest.fixture
def served(terminal, write):
    """A server whose API other machines reach, and what such a machine has in its environment."""
    port = free_port()
    terminal.environ |= {"HOMEPORT_API_PORT": str(port), "HOMEPORT_TOKEN": "correct-horse"}
    terminal.run("up")
    return {
        "HOMEPORT_SERVER": f"http://127.0.0.1:{port}",
        "HOMEPORT_HOME": str(terminal.home.parent / "elsewhere"),
    }


@pytest.mark.timeout(300)
def test_functions_are_called_by_name_here_and_from_another_machine(terminal, write, served):
    deployed = python(terminal, write(DEPLOYS))
    assert "" == deployed.stderr
    assert (
        "Deployment strategy must be 'rolling' or 'recreate', not 'sideways'\n" == deployed.stdout
    )
    calls = write(CALLS, "calls.py")
    shop = write(RUNS, "my_shop.py")
    here, there = python(terminal, calls), python(terminal, calls, **served)
    runs = python(terminal, shop, **served)
    command = terminal.run("run", f"{shop}::price", "--item", "lamp", check=False)
    refused = python(terminal, calls, **served, HOMEPORT_TOKEN="wrong")
    nobody = python(terminal, calls, **served | {"HOMEPORT_SERVER": "http://127.0.0.1:1"})

    for done in (here, there):
        assert 0 == done.returncode, done.stderr
        told = json.loads(done.stdout)
        assert CALLED == told[:-2]
        assert "unicorn" in told[-2]
        assert "Lookup failed for Function 'nothing' from the 'store' app" in told[-1]
    assert 0 == runs.returncode, runs.stderr
    assert [4, 5, [1, 2], 5, 7, 6, "sold out: unicorn"] == json.loads(runs.stdout)["found"][:-1]
    assert 0 == command.returncode, command.stderr
    assert "AuthError: the token is wrong, has expired or was deleted" in refused.stderr
    assert "ConnectionError: no server answers at http://127.0.0.1:1" in nobody.stderr
    assert "correct-horse" not in refused.stderr + nobody.stderr


def test_a_detached_run_continues_until_its_spawned_calls_have_ended(terminal, write):
    done = terminal.run("run", "--detach", write(DETACHED))
    call = done.stdout.strip()
    assert "`detached` continues until its spawned calls have ended" in done.stderr
    assert ["detached"] == [app["name"] for app in terminal.status()["apps"]]
    assert "running" in terminal.run("call", "list", "detached").stdout
    opens = write(
        f"""
        import modal
        modal.Queue.from_name("gate").put("open")
        print(modal.FunctionCall.from_id({call!r}).get(timeout=60))
        """,
        "opens.py",
    )

    assert "open\n" == python(terminal, opens).stdout
    wait_for(lambda: not terminal.status()["apps"], "the end of the detached app")
