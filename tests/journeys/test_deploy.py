"""`homeport deploy`: it stays, it is replaced without a failed request, it scales to zero and back."""

import threading

import httpx
import psutil
import pytest

from tests.waiting import wait_for

VERSION = """
    import os
    import modal

    app = modal.App("shop")

    @app.function(scaledown_window=2)
    @modal.concurrent(max_inputs=4)
    @modal.fastapi_endpoint()
    def version():
        return {"version": 1, "container": os.environ["MODAL_TASK_ID"]}
"""


def test_a_deploy_survives_the_shell_and_later_edits(terminal, write, visitor):
    script = write(VERSION)
    url = terminal.deploy(script)["version"]
    script.write_text("raise SystemExit('edited')")

    assert 1 == visitor.get(url).json()["version"]
    assert terminal.status()["kept"]
    assert ["deployed"] == [app["state"] for app in terminal.json("app", "list")]


def test_the_same_script_again_is_skipped(terminal, write):
    terminal.deploy(write(VERSION))

    assert "skipped" in terminal.run("deploy", write(VERSION)).stdout
    assert 1 == terminal.json("deploy", write(VERSION))["version"]


def test_a_redeploy_fails_nobody(terminal, write):
    url = terminal.deploy(write(VERSION))["version"]
    stop, seen, failures = threading.Event(), set(), []

    def probe():
        with httpx.Client(timeout=60, trust_env=False) as client:
            while not stop.is_set():
                try:
                    seen.add(client.get(url).raise_for_status().json()["version"])
                except httpx.HTTPError as error:
                    failures.append(repr(error))

    probes = [threading.Thread(target=probe) for _ in range(4)]
    for thread in probes:
        thread.start()
    try:
        for number in (2, 3, 4):
            terminal.deploy(write(VERSION.replace('"version": 1', f'"version": {number}')))
            wait_for(lambda n=number: n in seen or failures, f"version {number}")
    finally:
        stop.set()
        for thread in probes:
            thread.join()

    assert [] == failures
    assert {1, 2, 3, 4} == seen


def test_a_broken_version_leaves_the_old_one_and_says_why(terminal, write, visitor):
    url = terminal.deploy(write(VERSION))["version"]
    broken = VERSION.replace(
        "import os",
        "import os, sys\n    if 'homeport.runner.__main__' in sys.modules or not __import__('modal').is_local(): raise RuntimeError('no fuel')",
    )
    done = terminal.run("deploy", write(broken), check=False)

    assert 1 == done.returncode
    assert "no fuel" in done.stderr
    assert "Traceback" not in done.stderr.split("no fuel")[-1]
    assert 1 == visitor.get(url).json()["version"]
    assert [1] == [r["version"] for r in terminal.json("app", "history", "shop")]
    failed, first = terminal.json("app", "deploys", "shop")
    assert (1, "ok", "socket") == (first["version"], first["result"], first["by"])
    assert (None, "StartError") == (failed["version"], failed["result"])
    assert "no fuel" in failed["reason"]
    assert "no fuel" in terminal.run("app", "deploys").stdout


def _processes(terminal, container: str) -> list[psutil.Process]:
    """A container's runner, which `ps` shows by the container's id."""
    return terminal.processes(container)


def test_an_interrupted_deploy_continues_in_the_server_and_says_so(terminal, write, tmp_path):
    go = tmp_path / "go"
    script = write(
        """
        import time, pathlib
        import modal

        app = modal.App("slow")

        @app.cls(volumes={"/gate": modal.Volume.from_name("gate", create_if_missing=True)})
        class Slow:
            @modal.enter()
            def load(self):
                print("loading", flush=True)
                while not pathlib.Path("/gate/go").exists():
                    time.sleep(0.01)

            @modal.fastapi_endpoint()
            def hello(self):
                return "hello"
        """
    )
    command = terminal.start("deploy", script)
    command.wait_for("loading")

    assert 130 == command.interrupt()
    assert "interrupted: the server continues with the deploy of `slow`" in command.output
    (going_on,) = terminal.json("app", "deploys", "slow")
    assert "running" == going_on["result"]
    watching = terminal.start("app", "deploys", "--watch", str(going_on["id"]))
    go.write_text("")
    terminal.run("volume", "put", "gate", go, "/go")
    watching.wait_for("slow v1")
    wait_for(lambda: "Slow.hello" in terminal.urls(), "the deploy")


def test_a_function_without_an_image_is_told_where_its_packages_are(terminal, write):
    script = write(
        """
        import modal

        app = modal.App("bare")


        @app.function()
        @modal.asgi_app()
        def web():
            import flasque
        """
    )
    told = terminal.run("deploy", script, check=False).stderr

    assert "install `flasque` there" in told
    assert "The image lacks it" not in told
    assert f"  {script.name}:7  @app.function()" in told


def test_to_zero_and_back(terminal, write, visitor):
    url = terminal.deploy(write(VERSION))["version"]
    first = visitor.get(url).json()["container"]
    assert _processes(terminal, first)
    wait_for(lambda: not terminal.containers(), "no container")
    assert not _processes(terminal, first)
    assert first != visitor.get(url).json()["container"]


def test_min_containers_are_there_without_anybody_asking(terminal, write):
    script = write(VERSION.replace("scaledown_window=2", "min_containers=2"))
    terminal.deploy(script)

    wait_for(
        lambda: ["ready"] * 2 == [c["state"] for c in terminal.containers()],
        "two containers",
    )


def test_rollback_is_a_new_version_of_the_old_source(terminal, write, visitor):
    url = terminal.deploy(write(VERSION))["version"]
    terminal.deploy(write(VERSION.replace('"version": 1', '"version": 2')))
    terminal.run("app", "rollback", "shop")

    assert 1 == visitor.get(url).json()["version"]
    assert [3, 2, 1] == [r["version"] for r in terminal.json("app", "history", "shop")]
    changed = terminal.run("app", "diff", "shop", "v1", "v2").stdout
    signs = [line[:1] for line in changed.splitlines() if '"version": ' in line]
    assert ["-", "+"] == signs
    assert "same files and settings" in terminal.run("app", "diff", "shop", "v1", "v3").stderr


def test_a_stopped_app_is_unknown_and_its_containers_are_gone(terminal, write, visitor):
    url = terminal.deploy(write(VERSION))["version"]
    container = visitor.get(url).json()["container"]
    terminal.run("app", "stop", "shop", "-y")

    assert 404 == visitor.get(url).status_code
    wait_for(lambda: not _processes(terminal, container), "the container's end")
    again = terminal.run("app", "stop", "shop", "-y", check=False)
    assert (1, True) == (again.returncode, "already stopped" in again.stderr)
    terminal.deploy(write(VERSION))
    assert 200 == visitor.get(url).status_code


def test_a_restart_of_the_server_brings_deployed_apps_back(terminal, write, visitor):
    url = terminal.deploy(write(VERSION))["version"]
    terminal.run("down")
    with pytest.raises(httpx.ConnectError):
        visitor.get(url)
    assert [] == terminal.processes()
    terminal.run("up")

    assert 1 == visitor.get(terminal.urls()["version"]).json()["version"]
    assert url == terminal.urls()["version"]


def test_a_killed_container_costs_its_requests_and_no_more(terminal, write, visitor):
    script = write(
        VERSION.replace(
            "def version():",
            "def version(hang: bool = False):\n        if hang: os.kill(os.getpid(), 9)",
        )
    )
    url = terminal.deploy(script)["version"]

    def visit(**params):
        # A connection that has answered before is closed instead: RFC 9112, 9.3.1.
        return httpx.get(url, params=params, timeout=60, trust_env=False)

    before = visit().json()["container"]
    lost = visit(hang="true")
    after = visit()

    assert 502 == lost.status_code
    assert lost.text.startswith("homeport: ")
    assert 200 == after.status_code
    assert before != after.json()["container"]


def test_one_request_at_a_time_is_the_default(terminal, write):
    script = write(
        """
        import threading, time
        import modal

        app = modal.App("single")
        inside = threading.Semaphore(1)

        @app.function(max_containers=2)
        @modal.fastapi_endpoint()
        def alone():
            assert inside.acquire(blocking=False), "two at once"
            time.sleep(0.05)
            inside.release()
            return "ok"
        """
    )
    url = terminal.deploy(script)["alone"]
    answers = []

    def visit():
        answers.append(httpx.get(url, timeout=60, trust_env=False).status_code)

    visits = [threading.Thread(target=visit) for _ in range(20)]
    for thread in visits:
        thread.start()
    for thread in visits:
        thread.join()

    assert [200] * 20 == answers


def test_two_apps_cannot_have_one_url(terminal, write):
    terminal.deploy(write(VERSION.replace("endpoint()", 'endpoint(label="mine")')))
    other = VERSION.replace("endpoint()", 'endpoint(label="mine")').replace('"shop"', '"stall"')
    done = terminal.run("deploy", write(other), check=False)

    assert 1 == done.returncode
    assert "ada--mine.localhost" in done.stderr
    assert "homeport app stop shop" in done.stderr


def test_every_version_has_a_url_of_its_own_while_it_is_kept(terminal, write, visitor):
    for number in range(1, 4):
        terminal.deploy(write(VERSION.replace('"version": 1', f'"version": {number}')))
    main = f"http://127.0.0.1:{terminal.status()['http_port']}"

    def ask(url):
        host = httpx.URL(url).host
        return httpx.get(main, headers={"Host": host}, timeout=60, trust_env=False)

    history = terminal.json("app", "history", "shop")
    urls = {r["version"]: r["urls"]["version"] for r in history}
    assert {v: v for v in (1, 2, 3)} == {v: ask(url).json()["version"] for v, url in urls.items()}
    assert "shop-version-v2.localhost" in urls[2]
    terminal.run("down")
    terminal.run("up")
    main = f"http://127.0.0.1:{terminal.status()['http_port']}"
    assert 1 == ask(urls[1]).json()["version"]
    terminal.run("app", "stop", "shop", "-y")
    assert 404 == ask(urls[1]).status_code


SLOW = """
    import asyncio, os
    import modal

    app = modal.App("slow")

    @app.function(timeout=120)
    @modal.concurrent(max_inputs=4)
    @modal.fastapi_endpoint()
    async def wait(until: str = "/"):
        print("somebody waits")
        while not os.path.exists(until):
            await asyncio.sleep(0.01)
        return 1
"""


def test_requests_in_the_old_version_finish_or_are_cut_when_their_time_is_up(
    terminal, write, tmp_path
):
    terminal.environ["HOMEPORT_ISOLATION"] = "off"  # so that the containers see this file
    go = tmp_path / "go"
    url = terminal.deploy(write(SLOW))["wait"]
    answers = {}

    def visit(name, until):
        try:
            answers[name] = httpx.get(
                url, params={"until": str(until)}, timeout=90, trust_env=False
            ).status_code
        except httpx.TransportError:
            answers[name] = None

    waits_for = {"finishes": go, "is cut": tmp_path / "never"}
    visits = [threading.Thread(target=visit, args=item) for item in waits_for.items()]
    for thread in visits:
        thread.start()
    log = terminal.start("app", "logs", "slow", "-f")
    log.wait_for("somebody waits", after=0)
    wait_for(lambda: log.output.count("somebody waits") == 2, "both of them inside")
    terminal.deploy(write(SLOW.replace("return 1", "return 2")), "--drain", "6")
    assert 2 == httpx.get(url, timeout=60, trust_env=False).json()
    go.touch()
    for thread in visits:
        thread.join()

    assert 200 == answers["finishes"]
    assert answers["is cut"] in (None, 502, 503)
