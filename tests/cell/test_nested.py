"""What a zygote sees from a nested cell, and what its containers get from it."""

import json

from homeport.cell import nested
from homeport.contract import codec

#: In a base cell: another function's container has written; then a nested cell looks around and tries to get out.
LOOK = """
import json, os, sys
from homeport.cell import base, kernel, nested, private
from homeport.cell.description import Cell
from homeport.contract import codec

cell = codec.loads(Cell, sys.argv[1])
writes = sys.argv[2] == "writes"
def main():
    os.makedirs("/.cell/up/other/root/files")
    with open("/.cell/up/other/root/files/secret", "w") as file:
        file.write("another's")
    for directory in nested.TMPS:
        with open(f"{directory}/of-another", "w") as file:
            file.write("another's")
    os.environ["MARK"] = "zygote"
    sleeper = os.fork()
    if sleeper == 0:
        import time
        time.sleep(60)
    if nested.fork(cell, "f1", [], writes=writes):
        os.wait()
        os.kill(sleeper, 9)
        return 0
    found = {"up": sorted(os.listdir("/.cell/up")), "mode": os.stat("/.cell/up").st_mode}
    found["tmps"] = [name for path in nested.TMPS for name in os.listdir(path)]
    found["processes"] = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())
    try:
        kernel.umount("/.cell/up")
        found["umount"] = sorted(os.listdir("/.cell/up"))
    except OSError as error:
        found["umount"] = type(error).__name__
    for path in ("/.cell/root/etc/hosts", "/.cell/places.json", "/opt/mine"):
        try:
            with open(path, "a") as file:
                file.write("#")
            found[path] = "written"
        except OSError as error:
            found[path] = type(error).__name__
    found["pid"] = os.getpid()
    child = private.fork(cell, "1")
    if child == 0:
        found["container"] = [os.getpid(), os.path.exists("/opt/mine"), os.listdir("/.cell")[:0]]
        os.write(1, json.dumps(found).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os._exit(0)


base.run(cell, main)
"""


def look(account, how: str):
    """Return what a program in the nested cell has seen."""
    done = account.run(["-c", LOOK, codec.dumps(account.cell()), how])
    assert "" == done.stderr
    return json.loads(done.stdout)


def test_a_nested_cell_sees_nothing_of_its_neighbours_and_cannot_change_the_base(account):
    found = look(account, "reads")

    assert ([], 0o40700) == (found["up"], found["mode"])
    assert "of-another" not in found["tmps"], "a directory for our own files may be there"
    assert 2 == len(found["processes"])
    assert found["pid"] > nested.HIGH, "modules keep small numbers for other reasons than a pid"
    assert found["umount"] in ("OSError", "PermissionError")
    assert "OSError" == found["/.cell/root/etc/hosts"] == found["/.cell/places.json"]
    assert "OSError" == found["/opt/mine"]
    assert [1, False, []] == found["container"]


def test_the_containers_of_a_nested_cell_that_writes_begin_with_what_it_has_written(account):
    found = look(account, "writes")

    assert "other" not in found["up"]
    assert 0o40700 == found["mode"]
    assert found["umount"] in ("OSError", "PermissionError")
    assert "OSError" == found["/.cell/root/etc/hosts"] == found["/.cell/places.json"]
    assert "written" == found["/opt/mine"]
    assert [1, True, []] == found["container"]
