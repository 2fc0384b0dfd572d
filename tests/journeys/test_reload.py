"""`homeport serve`: whatever a script is made of is watched, and what was saved last counts."""

import signal

import psutil
import pytest

from tests.waiting import wait_for

SCRIPT = """
    import modal
    {top}

    image = {base}{steps}
    app = modal.App("hello", image=image)

    @app.function()
    @modal.fastapi_endpoint()
    def hello():
        import os
        return {answer}
"""


@pytest.fixture
def serve(terminal, write, visitor):
    """Save a script; it is served from the first time on."""
    url = ""

    def save(answer: str, *, top: str = "", steps: str = "", base: str = "modal.Image()") -> None:
        nonlocal url
        script = write(SCRIPT.format(answer=answer, top=top, steps=steps, base=base))
        if not url:
            save.command = terminal.serve(script)
            url = terminal.urls()["hello"]

    def until(answer: object) -> None:
        wait_for(lambda: visitor.get(url).text == answer, f"the answer {answer!r}")

    save.until = until
    return save


def test_files_that_come_and_go_in_a_mounted_directory_reload(serve, write):
    folder = write("one", "data/a.txt").parent
    answer = 'sorted(os.listdir("data")), open("data/a.txt").read()'
    serve(answer, steps=f'.add_local_dir("{folder}", "/root/data")')
    serve.until('[["a.txt"],"one"]')
    write("two", "data/a.txt")
    serve.until('[["a.txt"],"two"]')
    write("", "data/b.txt")
    write("", "data/c/d.txt")
    serve.until('[["a.txt","b.txt","c"],"two"]')
    (folder / "b.txt").unlink()
    serve.until('[["a.txt","c"],"two"]')


def test_a_changed_requirements_file_builds_the_image_again(serve, write):
    listed = write("fastapi", "listed.txt")
    steps = f'.debian_slim().pip_install_from_requirements("{listed}")'
    serve('__import__("importlib.util").util.find_spec("six") is not None', steps=steps)
    serve.until("false")
    write("fastapi\nsix", "listed.txt")
    serve.until("true")


def test_the_file_in_which_a_load_failed_is_watched_too(serve, write):
    serve("1")
    write("", "fresh/__init__.py")
    write("X ==", "fresh/part.py")
    serve("part.X", top="from fresh import part")
    serve.command.wait_for("SyntaxError")
    write("X = 2", "fresh/part.py")
    serve.until("2")


@pytest.mark.parametrize(
    "slow",
    [
        {"top": "import time; print('asleep'); time.sleep(600)"},
        {"top": "import time; modal.is_local() or print('asleep') or time.sleep(600)"},
        {"steps": ".run_commands('echo asleep; sleep 600')"},
    ],
    ids=["load", "start", "build"],
)
def test_a_save_takes_the_place_of_one_that_is_still_under_way(serve, slow, request):
    if "steps" in slow:
        slow = {**slow, "base": request.getfixturevalue("small")}
    serve("1")
    serve.until("1")
    serve("2", **slow)
    serve.command.wait_for("asleep$")
    serve("3")
    serve.until("3")

    assert 0 == serve.command.interrupt()


def test_a_deploy_that_is_killed_leaves_no_process_that_loads_its_script(terminal, write):
    script = write("import os, time\nprint('pid', os.getpid())\ntime.sleep(600)")
    command = terminal.start("deploy", script)
    loader = psutil.Process(int(command.wait_for(r"pid (\d+)").group(1)))
    command.process.send_signal(signal.SIGKILL)

    assert [] == psutil.wait_procs([loader], timeout=30)[1]


def test_files_of_a_reload_or_a_failed_deploy_go_with_its_last_container(serve, terminal, write):
    for number in range(3):
        serve(f'"{number}"')
        serve.until(f'"{number}"')
    trees = terminal.home / "revisions"
    wait_for(lambda: len([*trees.iterdir()]) == 1, "the trees of earlier versions to go")
    broken = write(
        SCRIPT.format(top="1 / modal.is_local()", steps="", answer="0", base="modal.Image()"),
        "broken.py",
    )
    deployed = terminal.run("deploy", broken, "--name", "broken", check=False)
    wait_for(lambda: len([*trees.iterdir()]) == 1, "the tree of what did not start to go")
    serve.command.interrupt()

    assert "ZeroDivisionError" in deployed.stderr
    wait_for(lambda: not [*trees.iterdir()], "the last tree to go")
