"""Dicts and queues from the command line."""


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
