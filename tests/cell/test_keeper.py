"""Files of cells, as the node's process opens, measures and removes them."""

import json
import os

from tests import trees

WRITE = "os.makedirs('/opt/mine'); open('/opt/mine/big', 'wb').write(os.urandom(3 * 1024**2)); os.chmod('/opt/mine', 0); print(1)"
LEAVE = "os.chown('/opt/mine', 1000, 1000)"
KEEP = """
import json, os, sys
from homeport.cell.keeper import Opener

opener = Opener()
bytes = opener.measure(sys.argv[1])
opener.remove(sys.argv[1])
print(json.dumps([bytes, os.path.exists(sys.argv[1])]))
opener.close()
"""


def test_files_that_a_container_hid_are_measured_and_removed(account):
    cell = account.cell()
    more = LEAVE if cell.ids is not None else "pass"
    done = account.inside(cell, [account.python, "-c", f"import os\n{WRITE}\n{more}"])
    assert "1\n" == done.stdout, done.stderr
    size, is_there = json.loads(account.run(["-c", KEEP, f"{cell.storage}/1"]).stdout)

    assert 3 * 1024**2 <= size < 3.2 * 1024**2
    assert not is_there


ENDS = """
import os, sys
from homeport.cell.keeper import Opener

if os.geteuid() == 0:  # root starts none
    sys.exit("the keeper has ended")
try:
    Opener(python="/bin/true")
except OSError as error:
    sys.exit(str(error))
"""


def test_a_keeper_that_ends_at_once_is_an_error(account):
    done = account.run(["-c", ENDS])

    assert "the keeper has ended" in done.stderr


KILLED = """
import os, sys
from homeport.cell.keeper import Opener

opener = Opener()
for _ in range(2):
    if os.geteuid():
        opener._process.kill()
        opener._process.wait()
    os.close(opener.open(sys.argv[1]))
opener.close()
if os.geteuid():
    try:
        opener.open(sys.argv[1])
    except OSError as error:
        print(error.args[1])
else:
    print("the keeper has ended")
"""


def test_a_keeper_that_was_killed_is_started_again_until_it_is_closed(account):
    done = account.run(["-c", KILLED, str(account.mkdir("tree"))])

    assert ("the keeper has ended\n", "") == (done.stdout, done.stderr)


def test_files_are_added_at_their_places_beside_what_is_there(account):
    tree = account.mkdir("tree")
    for name in ("assets/css/a.css", "usr/share/own/b", "etc/mine/c", "d", "opt/e/f"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(name)
    for path in (tree, *trees.paths(tree)):
        os.chown(path, account.user, account.user)
    code = """
import json, os
names = ("assets/css/a.css", "usr/share/own/b", "etc/mine/c", "d", "opt/e/f")
with open("/assets/css/a.css", "a") as file:
    file.write(" changed")
print(json.dumps([[open(f"/{name}").read() for name in names], os.path.exists("/etc/hosts"), len(os.listdir("/usr/share")) > 1]))
"""
    cell = account.cell()
    mounts = {"/": [str(tree), "merged"]}
    done = account.inside(cell, [account.python, "-c", code], mounts=mounts)
    assert done.stdout, done.stderr
    found, *others = json.loads(done.stdout)

    assert ["assets/css/a.css changed", "usr/share/own/b", "etc/mine/c", "d", "opt/e/f"] == found
    assert [True, True] == others
    assert "assets/css/a.css" == (tree / "assets/css/a.css").read_text()
