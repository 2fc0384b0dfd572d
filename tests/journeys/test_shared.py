"""Dicts and queues: from functions, scripts and commands."""

import subprocess
import sys


def test_a_dict_is_made_listed_and_deleted(terminal):
    created = terminal.run("dict", "create", "state")
    again = terminal.run("dict", "create", "state", check=False)
    listed = terminal.json("dict", "list")
    nothing = terminal.run("dict", "get", "state", "key", check=False)
    items = terminal.json("dict", "items", "state")
    terminal.run("dict", "clear", "state", "-y")
    terminal.run("dict", "delete", "state", "-y")
    gone = terminal.run("dict", "delete", "state", "-y", check=False)

    assert 'modal.Dict.from_name("state")' in created.stdout
    assert (1, 1, 1) == (again.returncode, nothing.returncode, gone.returncode)
    assert "the dict `state` exists" in again.stderr
    assert [("state", 0)] == [(each["name"], each["length"]) for each in listed]
    assert "has no key `key`" in nothing.stderr
    assert [] == items
    assert "there is no dict `state`" in gone.stderr


def test_a_queue_is_made_listed_and_deleted(terminal):
    terminal.run("queue", "create", "jobs")
    listed = terminal.json("queue", "list")
    length = terminal.run("queue", "len", "jobs")
    peeked = terminal.run("queue", "peek", "jobs")
    terminal.run("queue", "clear", "jobs", "-y", "--all")
    terminal.run("queue", "delete", "jobs", "-y")

    assert [("jobs", 0)] == [(each["name"], each["length"]) for each in listed]
    assert ("0\n", "") == (length.stdout, peeked.stdout)
    assert [] == terminal.json("queue", "list")
    assert 0 == terminal.run("queue", "delete", "jobs", "-y", "--allow-missing").returncode


APP = """
    import modal

    app = modal.App("shared")
    state = modal.Dict.from_name("state", create_if_missing=True)
    jobs = modal.Queue.from_name("jobs", create_if_missing=True)

    @app.function()
    @modal.fastapi_endpoint()
    async def add(word: str):
        await state.put.aio(word, {"seen": await state.len.aio()})
        await jobs.put.aio(word)
        return await state.get.aio(word)

    @app.function()
    @modal.fastapi_endpoint()
    def take():
        return [jobs.get(timeout=30), dict(state.items())]

    @app.function(restrict_modal_access=True)
    @modal.fastapi_endpoint()
    def alone():
        try:
            return state["a"]
        except modal.exception.ExecutionError as error:
            return str(error)
"""

OUTSIDE = """
import modal

state = modal.Dict.from_name("state")
jobs = modal.Queue.from_name("jobs")
print(sorted(state.items()), jobs.len())
jobs.put("from outside")
"""


def test_functions_share_and_a_restart_keeps_everything(terminal, write, visitor):
    urls = terminal.deploy(write(APP))
    first = visitor.get(urls["add"], params={"word": "a"}).json()
    second = visitor.get(urls["add"], params={"word": "b"}).json()
    terminal.run("down")
    terminal.run("up")
    taken = visitor.get(urls["take"]).json()
    outside = subprocess.run(
        [sys.executable, "-c", OUTSIDE.replace("import modal", "import homeport as modal")],
        env=terminal.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    last = [visitor.get(urls["take"]).json()[0] for _ in range(2)]
    alone = visitor.get(urls["alone"]).json()
    items = terminal.json("dict", "items", "state")

    assert ({"seen": 0}, {"seen": 1}) == (first, second)
    assert ["a", {"a": {"seen": 0}, "b": {"seen": 1}}] == taken
    assert (0, "") == (outside.returncode, outside.stderr)
    assert "[('a', {'seen': 0}), ('b', {'seen': 1})] 1\n" == outside.stdout
    assert ["b", "from outside"] == last
    assert "restrict_modal_access" in alone
    assert {"key": "'a'", "value": "{'seen': 0}"} == items[0]
