"""Images have their own packages; the terminal shows the build; an image is kept and removed."""

import os
import platform
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

SYSTEM = Path("/usr/bin/python3.11")


@pytest.fixture(autouse=True)
def _without_cells(terminal):
    """These images are built on this machine; those with a root of their own are in test_roots."""
    terminal.environ["HOMEPORT_ISOLATION"] = "off"


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


def test_two_pythons_and_an_old_fastapi_in_one_app_and_nothing_of_ours(terminal, write, visitor):
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
    assert "error: `pip_install` failed: Because there is no version of six==0.0.77" in (
        missing.stderr
    )
    assert "  script.py:4" in missing.stderr


LOUD = """
    import modal

    hush = modal.Secret.from_dict({"KEY": "first-line\\nsecond-line"})
    image = modal.Image.debian_slim().run_commands(
        'printf "%s\\n" "$KEY" "went wrong"; exit 3', secrets=[hush]
    )
    app = modal.App("loud", image=image)

    @app.function()
    @modal.fastapi_endpoint()
    def hello():
        return "hello"
"""


def test_what_a_failed_build_printed_is_told_once_and_without_its_secrets(terminal, write):
    script = write(LOUD)
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
        modal.Image.debian_slim()
        .add_local_file("words.txt", "/root/words.txt", copy=True)
        .run_commands("wc -w < words.txt > count.txt; echo counted with $TOKEN", secrets=[token])
        .run_function(learn, args=(4,))
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
    terminal, write, visitor, tmp_path
):
    words = write("one two", "words.txt")
    script = write(MADE.replace('"words.txt",', f'"{words}",'))
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
    logs = "".join(path.read_text() for path in terminal.home.rglob("*.log"))
    assert "hush-hush" not in first.stderr + logs


SLOW = """
    import modal

    image = modal.Image.debian_slim().run_commands("echo $$ > {gate}; cat {gate} > made")
    app = modal.App("slow", image=image)

    @app.function()
    @modal.asgi_app()
    def hello():
        async def answer(scope, receive, send):
            await send({{"type": "http.response.start", "status": 200, "headers": []}})
            await send({{"type": "http.response.body", "body": b"hello"}})
        return answer
"""


@pytest.fixture
def gate(tmp_path) -> Path:
    """A named pipe: a command of a build writes its pid into it, and then waits to read from it."""
    os.mkfifo(tmp_path / "gate")
    return tmp_path / "gate"


def half(terminal) -> list[Path]:
    return [
        path
        for path in (terminal.home / "environments").glob("*")
        if not (path / "record.json").exists()
    ]


def test_a_server_killed_in_a_build_leaves_no_half_environment(terminal, write, visitor, gate):
    script = write(SLOW.format(gate=gate))
    terminal.run("up")
    deploy = terminal.start("deploy", script)
    builder = psutil.Process(int(gate.read_text()))
    psutil.Process(terminal.status()["pid"]).send_signal(signal.SIGKILL)
    assert 1 == deploy.end()
    # No process writes there any more.
    assert [] == psutil.wait_procs([builder], timeout=30)[1]
    assert 1 == len(half(terminal))
    terminal.run("up")
    assert [] == half(terminal)
    again = terminal.start("deploy", script)
    gate.read_text()
    gate.write_text("opened")

    assert 0 == again.end(), again.output
    assert [] == half(terminal)
    assert "hello" == visitor.get(terminal.urls()["hello"]).text


def test_serve_shows_a_build_as_it_goes_and_ctrl_c_ends_it(terminal, write, visitor, gate):
    terminal.run("up")
    command = terminal.start("serve", write(SLOW.format(gate=gate)))
    builder = psutil.Process(int(gate.read_text()))
    command.wait_for(r"run_commands: \$ echo")
    assert 0 == command.interrupt()
    assert [] == psutil.wait_procs([builder], timeout=30)[1]
    assert "Traceback" not in command.output
    assert [] == half(terminal)

    command = terminal.start("serve", write(SLOW.format(gate=gate)))
    gate.read_text()
    gate.write_text("opened")
    url = command.wait_for(r"(http://127\.0\.0\.1:\d+)").group(1)
    assert "hello" == visitor.get(url).text
    changed = SLOW.format(gate=gate).replace("debian_slim()", "debian_slim().pip_install('six')")
    seen = len(command.lines)
    write(changed)
    gate.read_text()
    command.wait_for(r"pip_install: +\+ six", after=seen)
    gate.write_text("opened")
    command.wait_for("Reloaded", after=seen)
    write(changed.replace("'six'", "'idna'"))
    builder = psutil.Process(int(gate.read_text()))
    assert 0 == command.interrupt()
    assert [] == psutil.wait_procs([builder], timeout=30)[1]
    assert {} == terminal.urls()


def test_images_are_listed_and_those_that_nothing_needs_are_pruned(terminal, write):
    script = BARE.replace("fastapi_endpoint", "asgi_app").replace('"hello"', "print")
    one = script.replace("debian_slim()", "debian_slim().run_commands('echo 1')")
    two = script.replace("debian_slim()", "debian_slim().run_commands('echo 2')")
    terminal.run("deploy", write(one))
    terminal.run("deploy", write(two, "other.py"), "--name", "other")

    def last_steps() -> set[str]:
        return {image["steps"][-1] for image in terminal.json("image", "list")}

    assert {"debian_slim", "run_commands echo 1", "run_commands echo 2"} == last_steps()
    assert "run_commands echo 2" in terminal.run("image", "list").stdout
    terminal.run("app", "stop", "other", "--yes")
    assert 1 == terminal.run("image", "prune", check=False).returncode
    assert "1 images are removed" in terminal.run("image", "prune", "--yes").stderr
    assert {"debian_slim", "run_commands echo 1"} == last_steps()
