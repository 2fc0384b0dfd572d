"""Images have their own packages; the terminal shows the build; an image is kept and removed."""

import contextlib
import platform
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests import trees
from tests.waiting import PATIENCE_S, wait_for

pytestmark = pytest.mark.timeout(
    300
)  # each command of a terminal waits for its turn on a busy machine
SYSTEM = Path("/usr/bin/python3.11")


VERSIONS = """
    import modal

    plain = modal.Image.debian_slim()
    old = modal.Image.debian_slim(python_version={version!r}).pip_install(
        "fastapi==0.95.0", "pydantic<2", "uvicorn==0.22.0"
    )
    new = plain.pip_install("starlette")
    app = modal.App("versions")

    def told():
        import importlib.util, platform
        from importlib.metadata import version
        seen = [n for n in ("sqlalchemy", "typer", "httpx") if importlib.util.find_spec(n)]
        return [platform.python_version(), version("starlette").split(".")[0], seen]

    @app.function(image=old)
    @modal.fastapi_endpoint()
    def older():
        import fastapi, pydantic
        return [fastapi.__version__, pydantic.VERSION.split(".")[0], *told()]

    with plain.imports():
        import nowhere_to_be_found

    with new.imports():
        import starlette.responses

    @app.function(image=new)
    @modal.asgi_app()
    def newer():
        async def answer(scope, receive, send):
            await starlette.responses.JSONResponse(told())(scope, receive, send)
        return answer
"""


def test_an_app_may_have_two_pythons_and_an_old_fastapi_and_sees_no_package_of_ours(
    terminal, write, visitor
):
    words = [SYSTEM, "-c", "import platform; print(platform.python_version())"]
    there = SYSTEM.exists()
    version = subprocess.check_output(words, text=True).strip() if there else "3.11"
    urls = terminal.deploy(write(VERSIONS.format(version=version)))
    older, newer = (visitor.get(urls[tag]).json() for tag in ("older", "newer"))

    assert ["0.95.0", "1", version if there else platform.python_version(), "0", []] == older
    assert [platform.python_version(), "1", []] == newer
    containers = [psutil.Process(c["pid"]) for c in terminal.json("container", "list")]
    assert 0 == terminal.run("app", "stop", "versions", "--yes").returncode
    # An old uvicorn ends when it is asked to, too.
    assert [] == psutil.wait_procs(containers, timeout=30)[1]


BARE = """
    import modal

    app = modal.App("bare", image=modal.Image.debian_slim())

    @app.function()
    @modal.fastapi_endpoint()
    def hello():
        return "hello"
"""


def test_an_image_without_fastapi_says_to_add_it_and_a_missing_package_is_named(terminal, write):
    without = terminal.run("deploy", write(BARE), check=False)
    wrong = BARE.replace("debian_slim()", "debian_slim().pip_install('six==0.0.77')")
    missing = terminal.run("deploy", write(wrong), check=False)

    assert 1 == without.returncode == missing.returncode
    assert '`fastapi_endpoint` needs FastAPI: add `.pip_install("fastapi[standard]")`' in (
        without.stderr
    )
    assert "direct cause" not in without.stderr
    assert "error: `pip_install` failed: Because there is no version of six==0.0.77" in (
        missing.stderr
    )
    assert "  script.py:4" in missing.stderr


LOUD = """
    import modal

    hush = modal.Secret.from_dict({{"KEY": "first-line\\nsecond-line"}})
    image = {small}.run_commands(
        'printf "%s\\n" "$KEY" "went wrong"; exit 3', secrets=[hush]
    )
    app = modal.App("loud", image=image)

    @app.function()
    @modal.fastapi_endpoint()
    def hello():
        return "hello"
"""


def test_the_output_of_a_failed_build_is_shown_once_and_without_its_secrets(terminal, write, small):
    script = write(LOUD.format(small=small))
    for command in (("deploy", script), ("serve", script)):
        told = terminal.run(*command, check=False).stderr

        assert 1 == told.count("\nrun_commands: went wrong\n")
        assert "went wrong" not in told.splitlines()
        assert "exit code 3" in told
        assert "script.py:5" in told
        assert "-line" not in told.replace("command-line", "")


MADE = """
    import modal, os
    from pathlib import Path

    def learn(n):
        Path("model.txt").write_text(os.environ["TOKEN"][:n])

    token = modal.Secret.from_dict({"TOKEN": "hush-hush"})
    image = (
        SMALL
        .add_local_file("words.txt", "/root/words.txt", copy=True)
        .run_commands("set -- $(cat words.txt); echo $# > count.txt; echo counted with $TOKEN", secrets=[token])
        .run_function(learn, args=(4,), secrets=[token])
    )
    app = modal.App("made", image=image)

    @app.function()
    @modal.asgi_app()
    def hello():
        text = "".join(Path(name).read_text() for name in ("model.txt", "count.txt", "words.txt"))
        async def answer(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": text.encode()})
        return answer
"""


def test_a_container_finds_what_the_steps_made_after_a_restart_and_a_rollback_too(
    terminal, write, visitor, small
):
    words = write("one two", "words.txt")
    script = write(MADE.replace('"words.txt",', f'"{words}",').replace("SMALL", small))
    first = terminal.run("deploy", script)
    write("one two three", "words.txt")
    url = terminal.deploy(script)["hello"]
    after = visitor.get(url).text
    terminal.run("down")
    terminal.run("up")
    assert after == visitor.get(url).text
    terminal.run("app", "rollback", "made")

    assert "hush3\none two three" == after
    assert "hush2\none two" == visitor.get(url).text
    assert "run_commands: counted with ***" in first.stderr
    logs = [text for path, text in trees.files(terminal.home).items() if path.suffix == ".log"]
    assert logs
    assert "hush-hush" not in first.stderr
    assert [] == [text for text in logs if b"hush-hush" in text]


SLOW = """
    import modal

    image = {small}.run_commands({wait!r}){more}
    app = modal.App("slow", image=image)

    @app.function()
    @modal.asgi_app()
    def hello():
        async def answer(scope, receive, send):
            await send({{"type": "http.response.start", "status": 200, "headers": []}})
            await send({{"type": "http.response.body", "body": b"hello"}})
        return answer
"""
WAIT = (
    "python3 -c \"import socket; gate = socket.create_connection(('127.0.0.1', {port})); "
    "print('waits', flush=True); open('/made', 'wb').write(gate.recv(9))\""
)


class Gate:
    """A command of a build connects, and waits until it is let through."""

    def __init__(self, server: socket.socket) -> None:
        self._server = server
        self.held = contextlib.ExitStack()  # connections of builds that wait
        server.settimeout(PATIENCE_S)
        self.command = WAIT.format(port=server.getsockname()[1])

    def comes(self) -> psutil.Process:
        """The process of a build that waits, as this machine sees it."""
        connection, (_, port) = self._server.accept()
        self.held.enter_context(connection)
        for process in psutil.process_iter(["cmdline"]):
            if f"{self._server.getsockname()[1]}" in "".join(process.info["cmdline"] or [])[-200:]:
                with contextlib.suppress(psutil.Error):
                    if any(port == c.laddr[1] for c in process.net_connections("tcp")):
                        return process
        raise AssertionError("the process of the build is not there")

    def open(self) -> None:
        """Let the next one through."""
        connection, _ = self._server.accept()
        with connection:
            connection.sendall(b"opened")


@pytest.fixture
def gate() -> Iterator[Gate]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        gate = Gate(server)
        with gate.held:
            yield gate


def half(terminal) -> list[Path]:
    return [
        path
        for path in (terminal.home / "environments").glob("*")
        if not (path / "record.json").exists()
    ]


def slow(small: str, gate: Gate, more: str = "") -> str:
    return SLOW.format(small=small, wait=gate.command, more=more)


def test_a_server_killed_in_a_build_leaves_no_half_image(terminal, write, visitor, gate, small):
    script = write(slow(small, gate))
    terminal.run("up")
    deploy = terminal.start("deploy", script)
    builder = gate.comes()
    psutil.Process(terminal.status()["pid"]).send_signal(signal.SIGKILL)
    assert 1 == deploy.end()
    # No process writes there any more.
    assert [] == psutil.wait_procs([builder], timeout=PATIENCE_S)[1]
    assert 1 == len(half(terminal))
    terminal.run("up")
    assert [] == half(terminal)
    again = terminal.start("deploy", script)
    gate.open()

    assert 0 == again.end(), again.output
    wait_for(lambda: not half(terminal), "what compiles the packages to end")
    assert "hello" == visitor.get(terminal.urls()["hello"]).text


def test_serve_shows_a_build_as_it_goes_and_ctrl_c_ends_it(terminal, write, visitor, gate, small):
    terminal.run("up")
    command = terminal.start("serve", write(slow(small, gate)))
    builder = gate.comes()
    command.wait_for("run_commands: waits")
    assert 0 == command.interrupt()
    assert [] == psutil.wait_procs([builder], timeout=PATIENCE_S)[1]
    assert "Traceback" not in command.output
    wait_for(lambda: not half(terminal), "the half image to go")

    command = terminal.start("serve", write(slow(small, gate)))
    gate.open()
    url = command.wait_for(r"(http://127\.0\.0\.1:\d+)").group(1)
    assert "hello" == visitor.get(url).text
    seen = len(command.lines)
    write(slow(small, gate, ".pip_install('six')"))
    command.wait_for(r"pip_install: +\+ six", after=seen)
    command.wait_for("Reloaded", after=seen)
    write(slow(small, gate, f".pip_install('six').run_commands({gate.command!r})"))
    builder = gate.comes()
    assert 0 == command.interrupt()
    assert [] == psutil.wait_procs([builder], timeout=PATIENCE_S)[1]
    wait_for(lambda: not terminal.urls(), "the session's end")


def test_images_are_listed_and_those_that_nothing_needs_are_pruned(terminal, write, small):
    script = BARE.replace("fastapi_endpoint", "asgi_app").replace('"hello"', "print")
    one, two = (
        script.replace("modal.Image.debian_slim()", f"{small}.run_commands('echo {number}')")
        for number in (1, 2)
    )
    tag = small.split("'")[1]
    terminal.run("deploy", write(one))
    terminal.run("deploy", write(two, "other.py"), "--name", "other")

    def last_steps() -> set[str]:
        return {image["steps"][-1] for image in terminal.json("image", "list")}

    pulled = f"from_registry {tag}"
    assert {pulled, "run_commands echo 1", "run_commands echo 2"} == last_steps()
    assert "run_commands echo 2" in terminal.run("image", "list").stdout
    terminal.run("app", "stop", "other", "--yes")
    assert 1 == terminal.run("image", "prune", check=False).returncode
    removed = "1 image removed"  # once the app's last container has ended
    wait_for(lambda: removed in terminal.run("image", "prune", "--yes").stderr, "the image to go")
    assert {pulled, "run_commands echo 1"} == last_steps()
